//! CEL expressions, compiled once and evaluated many times: routing rules of subscriptions
//! (contract 3.5) and the trip condition of circuit breakers (contract 10.1).
//! The language's function table is built once per process; an evaluation only borrows the variables.

#![deny(missing_docs)]

mod variables;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, ParseErrors, Program, Value};

pub use variables::Variables;

/// The longest expression text that compiles, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 8 * 1024;

/// The most nested expression tree that compiles. Evaluation recurses along the tree, so this bounds the stack.
pub const MAX_EXPRESSION_DEPTH: usize = 256;

/// Stack of the parser in bytes: enough for [`MAX_EXPRESSION_DEPTH`] levels without optimisation. What it does not touch is
/// address space, not memory.
const PARSER_STACK: usize = 64 << 20;

/// Why an expression did not compile, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is longer than [`MAX_EXPRESSION_BYTES`].
    #[error("expression of {length} bytes is longer than {MAX_EXPRESSION_BYTES}")]
    TooLong {
        /// The length of the text, in bytes.
        length: usize,
    },
    /// The text nests deeper than [`MAX_EXPRESSION_DEPTH`].
    #[error("expression `{expression}` nests deeper than {MAX_EXPRESSION_DEPTH}")]
    TooDeep {
        /// The text of the expression.
        expression: String,
    },
    /// The text is not CEL.
    #[error("expression `{expression}` is not valid")]
    Syntax {
        /// The text of the expression.
        expression: String,
        /// What the parser says.
        source: ParseErrors,
    },
    /// The system gives no thread to compile on.
    #[error("expression `{expression}` cannot be compiled now")]
    Thread {
        /// The text of the expression.
        expression: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The evaluation failed, for example because the event lacks a key the expression reads.
    /// A router treats this as "no match", a circuit breaker as "do not trip".
    #[error("expression `{expression}` could not be evaluated")]
    Evaluation {
        /// The text of the expression.
        expression: String,
        /// What the interpreter says.
        source: Box<ExecutionError>,
    },
    /// The expression gave a value that is neither true nor false.
    #[error("expression `{expression}` does not give a boolean but {found}")]
    NotBoolean {
        /// The text of the expression.
        expression: String,
        /// The CEL type of the value.
        found: String,
    },
}

/// A compiled expression; a clone shares the compiled program.
#[derive(Clone)]
pub struct Expression {
    inner: Arc<Compiled>,
}

struct Compiled {
    text: String,
    program: Program,
}

impl Expression {
    /// Compiles `text`. Variables are looked up at evaluation, so an unknown name is no error here.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::TooDeep`] and [`Error::Syntax`].
    pub fn compile(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(Error::TooLong { length: text.len() });
        }
        if depth_bound(text) > MAX_EXPRESSION_DEPTH {
            return Err(Error::TooDeep {
                expression: text.to_owned(),
            });
        }
        let program = parse(text).map_err(|source| Error::Thread {
            expression: text.to_owned(),
            source,
        })?;
        let program = program.map_err(|source| Error::Syntax {
            expression: text.to_owned(),
            source,
        })?;
        Ok(Self {
            inner: Arc::new(Compiled {
                text: text.to_owned(),
                program,
            }),
        })
    }

    /// Whether the expression holds for `variables`.
    ///
    /// # Errors
    /// [`Error::Evaluation`] (also for a key that is missing) and [`Error::NotBoolean`]; both mean "no match" to callers.
    pub fn matches(&self, variables: &Variables) -> Result<bool, Error> {
        // The language is shared; only the two empty variable maps of the context are made per evaluation.
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.set_variable_resolver(variables);
        match self.inner.program.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(Error::NotBoolean {
                expression: self.inner.text.clone(),
                found: other.type_of().to_string(),
            }),
            Err(source) => Err(Error::Evaluation {
                expression: self.inner.text.clone(),
                source: Box::new(source),
            }),
        }
    }

    /// The text the expression was compiled from.
    pub fn text(&self) -> &str {
        &self.inner.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text()).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Expression {}

/// The standard functions and macros of CEL: an immutable table, dear to build and cheap to share.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Compiles on a thread of its own: the parser takes up to 200 KB of stack for a level, more than the caller's may have left,
/// and a stack that overflows ends the program.
fn parse(text: &str) -> std::io::Result<Result<Program, ParseErrors>> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new()
            .name("expression".to_owned())
            .stack_size(PARSER_STACK)
            .spawn_scoped(scope, || LANGUAGE.compile(text))?;
        match parser.join() {
            Ok(program) => Ok(program),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// An upper bound of how deep the tree of `text` can be. Text inside quotes counts for nothing.
fn depth_bound(text: &str) -> usize {
    let mut open = vec![Level::default()];
    let mut deepest = 0;
    let mut quote = None;
    let mut escaped = false;
    let mut previous = ' ';
    for character in text.chars() {
        if let Some(end) = quote {
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == end {
                quote = None;
            }
            continue;
        }
        match character {
            '\'' | '"' => quote = Some(character),
            '(' | '[' | '{' => open.push(Level::default()),
            ')' | ']' | '}' if open.len() > 1 => {
                open.pop();
            }
            _ => {
                let level = open
                    .last_mut()
                    .expect("the outermost level is never popped");
                level.read(previous, character);
            }
        }
        deepest = deepest.max(open.iter().map(Level::bound).sum());
        if deepest > MAX_EXPRESSION_DEPTH {
            break;
        }
        previous = character;
    }
    deepest
}

/// What stands between one pair of brackets: operators chain to the left, one node each. Logical operators
/// bind weakest, so what chains in one of their operands does not add up with what chains in the next.
#[derive(Default)]
struct Level {
    logical: usize,
    operand: usize,
    longest_operand: usize,
}

impl Level {
    fn read(&mut self, previous: char, character: char) {
        match character {
            // Commas separate siblings, so what stood before does not nest with what follows.
            ',' => *self = Self::default(),
            '?' => self.logical(),
            '&' | '|' if previous == character => self.logical(),
            '+' | '-' | '*' | '/' | '%' | '.' | '!' | '<' | '>' => self.operand += 1,
            '=' if previous == character => self.operand += 1,
            _ => {}
        }
        self.longest_operand = self.longest_operand.max(self.operand);
    }

    fn logical(&mut self) {
        self.logical += 1;
        self.operand = 0;
    }

    fn bound(&self) -> usize {
        1 + self.logical + self.longest_operand
    }
}

#[cfg(test)]
mod tests;
