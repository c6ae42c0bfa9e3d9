//! A module that has been checked and translated, of which instances are made.

use std::sync::Arc;

use component::{Error, ErrorKind, Result};
use values::Clock;
use wasmi::{
    CompilationMode, Config, Engine, Extern, ExternType, Func, Instance, Linker, Module, Store,
    ValType,
};

use crate::{
    abi,
    guest::{Exports, Failure, Guest},
    settings::{Limits, MOST_DEPTH, MOST_STACK, START_SECTION},
    state::State,
    text,
    wasi::{self, senses::Senses},
};

/// What instances are made of.
pub struct Program {
    engine: Engine,
    module: Module,
    linker: Linker<State>,
    options: Options,
}

/// What instances have beside their module.
pub struct Options {
    pub name: Arc<str>,
    pub config: Arc<[u8]>,
    pub limits: Limits,
    pub strict: bool,
    pub clock: Arc<dyn Clock>,
}

/// An instance that has not run yet, and what it is to run first.
pub struct Fresh {
    guest: Guest,
    start: Option<Func>,
}

impl Program {
    /// Checks and translates a module: that takes time, for a large one.
    ///
    /// # Errors
    /// Where it is no module, or not one for this host.
    pub fn new(module: &[u8], options: Options) -> Result<Self> {
        let engine = Engine::new(&config());
        let module = Module::new(&engine, module).map_err(|error| {
            unusable("is no WebAssembly module that can be used").with_source(text::reason(error))
        })?;
        check(&module)?;
        let mut linker = Linker::new(&engine);
        let linked = abi::link(&mut linker).and_then(|()| wasi::link(&mut linker));
        linked.map_err(|error| Error::internal("the host is not complete", error))?;
        Ok(Self {
            engine,
            module,
            linker,
            options,
        })
    }

    /// Makes an instance. Does not wait; its start section runs here.
    ///
    /// # Errors
    /// Where it imports what there is not, needs more memory than it may have, or its start section fails.
    pub fn instance(&self) -> Result<Fresh, Failure> {
        let Options {
            name,
            config,
            limits,
            strict,
            clock,
        } = &self.options;
        let senses = match strict {
            true => Senses::strict(clock),
            false => Senses::real(Arc::clone(clock)),
        };
        let state = State::new(Arc::clone(name), Arc::clone(config), senses, limits);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.bounds);
        store.set_fuel(START_SECTION).map_err(Failure::trap)?;
        let instance = self.linker.instantiate_and_start(&mut store, &self.module);
        let instance = instance.map_err(Failure::trap)?;
        let memory = instance
            .get_export(&store, MEMORY)
            .and_then(Extern::into_memory);
        let func = |name| instance.get_func(&store, name);
        let (Some(memory), Some(request), Some(response)) = (memory, func(REQUEST), func(RESPONSE))
        else {
            return Err(Failure::trap("the module has lost its exports"));
        };
        let start = start(&instance, &store);
        let exports = Exports {
            memory,
            request,
            response,
        };
        Ok(Fresh {
            guest: Guest::new(store, exports, limits.fuel),
            start,
        })
    }
}

impl Fresh {
    /// Runs what has to run first.
    ///
    /// # Errors
    /// Where that fails.
    pub async fn started(mut self) -> Result<Guest, Failure> {
        if let Some(start) = self.start {
            self.guest.start(start).await?;
        }
        Ok(self.guest)
    }
}

const MEMORY: &str = "memory";
const REQUEST: &str = "handle_request";
const RESPONSE: &str = "handle_response";

/// Q-wasm-initialize: the functions by which the runtime of a language begins, of a library and of a program.
const STARTS: [&str; 2] = ["_initialize", "_start"];

fn start(instance: &Instance, store: &Store<State>) -> Option<Func> {
    let mut found = STARTS
        .iter()
        .filter_map(|name| instance.get_func(store, name));
    found.find(|func| {
        let of = func.ty(store);
        of.params().is_empty() && of.results().is_empty()
    })
}

fn config() -> Config {
    let mut config = Config::default();
    config
        // Translated when it is first called, a function takes fuel for that, and a call that begins with it cannot be resumed.
        .compilation_mode(CompilationMode::Eager)
        .consume_fuel(true)
        .ignore_custom_sections(true)
        .set_max_recursion_depth(MOST_DEPTH)
        .set_max_stack_height(MOST_STACK)
        .wasm_multi_memory(false);
    config
}

fn check(module: &Module) -> Result<()> {
    let memory = module.get_export(MEMORY);
    if !matches!(memory, Some(ExternType::Memory(_))) {
        return Err(unusable(&format!("has to export its memory as {MEMORY}")));
    }
    let (i32, i64) = (ValType::I32, ValType::I64);
    for (name, parameters, results, form) in [
        (REQUEST, &[][..], &[i64][..], "() -> i64"),
        (RESPONSE, &[i32, i32][..], &[][..], "(i32, i32) -> ()"),
    ] {
        let fits = match module.get_export(name) {
            Some(ExternType::Func(of)) => of.params() == parameters && of.results() == results,
            _ => false,
        };
        if !fits {
            return Err(unusable(&format!(
                "has to export the function {name}: {form}"
            )));
        }
    }
    Ok(())
}

/// What is wrong with the module at the URL.
fn unusable(problem: &str) -> Error {
    Error::new(
        ErrorKind::InvalidMetadata,
        format!("the module of the field url {problem}"),
    )
}
