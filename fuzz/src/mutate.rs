//! Inputs made of others: bits and bytes changed, parts dropped, repeated and put together, and words put in that parsers
//! tend to stumble over. The same seed gives the same inputs.

/// Longest input. Limits on length have tests of their own.
const MAX: usize = 4096;

/// Changes made to one input, at most.
const CHANGES: u64 = 6;

/// Words of the formats that are read here, and the ends of their ranges.
const WORDS: [&[u8]; 40] = [
    b"%",
    b"%2",
    b"%20",
    b"+",
    b"..",
    b"/",
    b"//",
    b"?",
    b"#",
    b"&",
    b"=",
    b";",
    b",",
    b":",
    b"\"",
    b"'",
    b"\\u0000",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"-",
    b"-1",
    b"0",
    b"1e400",
    b"9223372036854775808",
    b"18446744073709551616",
    b"0.0000000001",
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b"---\n",
    b"*",
    b"\xff\xfe",
    "\u{fffd}".as_bytes(),
    "\u{130}".as_bytes(),
];

/// An endless source of inputs.
pub(crate) struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self {
            // Zero would stay zero.
            state: seed | 1 << 63,
            corpus,
        }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.below(CHANGES) {
            self.change(&mut input);
        }
        input.truncate(MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let start = self.index(input.len() + 1);
        let end = start + self.index(input.len() - start + 1).min(16);
        match self.below(8) {
            0 => {
                input.drain(start..end);
            }
            1 => input.truncate(start),
            2 => {
                let part = input[start..end].repeat(1 + self.index(8));
                input.splice(start..start, part);
            }
            3 => {
                let word = WORDS[self.index(WORDS.len())];
                input.splice(start..end, word.iter().copied());
            }
            4 => {
                let word = WORDS[self.index(WORDS.len())];
                input.splice(start..start, word.iter().copied());
            }
            5 => {
                let other = self.seed().to_vec();
                let from = self.index(other.len() + 1);
                input.truncate(start);
                input.extend_from_slice(&other[from..]);
            }
            6 => {
                let random = self.random().to_le_bytes()[0];
                if let Some(byte) = input.get_mut(start) {
                    *byte = random;
                }
            }
            _ => {
                let bit = 1_u8 << self.below(8);
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= bit;
                }
            }
        }
    }

    fn seed(&mut self) -> &[u8] {
        let index = self.index(self.corpus.len());
        &self.corpus[index]
    }

    fn index(&mut self, below: usize) -> usize {
        let below = u64::try_from(below).expect("a length fits");
        usize::try_from(self.below(below)).expect("smaller than a length")
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random() % limit
    }

    /// Xorshift: good enough to choose, and the same everywhere.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn inputs_differ_and_come_again_from_the_same_seed() {
        let corpus = vec![b"1h2m".to_vec(), Vec::new()];
        let many = |seed| {
            let mut mutator = Mutator::new(seed, corpus.clone());
            (0..1000).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(many(7), many(7));
        assert_ne!(many(7), many(8));
        let different: HashSet<_> = many(7).into_iter().collect();
        assert!(different.len() > 500, "{}", different.len());
        assert!(different.iter().all(|input| input.len() <= MAX));
    }
}
