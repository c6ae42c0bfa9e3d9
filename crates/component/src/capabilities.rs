//! What a component can do, as a value: a small set per kind. A component whose abilities follow from what its server
//! declares computes it; nobody has to list the combinations.

use std::{fmt, marker::PhantomData};

/// The abilities of one kind: declared by [`capabilities!`](crate::capabilities!).
pub trait Capability: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// All of the kind, in the order in which they are shown.
    const ALL: &'static [Self];

    /// The name shown by the metadata API (contract 2.6).
    fn name(self) -> &'static str;

    /// Its place in [`Capability::ALL`]: below 32.
    fn index(self) -> u32;
}

/// Some abilities of a kind. Copied like a number, which it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Set<C> {
    bits: u32,
    kind: PhantomData<C>,
}

impl<C: Capability> Set<C> {
    /// None.
    pub const EMPTY: Self = Self {
        bits: 0,
        kind: PhantomData,
    };

    /// Whether an ability is there.
    pub fn contains(self, capability: C) -> bool {
        self.bits & (1 << capability.index()) != 0
    }

    /// The same with one more.
    #[must_use]
    pub fn with(self, capability: C) -> Self {
        Self {
            bits: self.bits | 1 << capability.index(),
            ..self
        }
    }

    /// Those that are there, in the order of their kind.
    pub fn iter(self) -> impl Iterator<Item = C> {
        let all = C::ALL.iter().copied();
        all.filter(move |capability| self.contains(*capability))
    }

    /// Their names, as the metadata API shows them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Capability::name)
    }
}

impl<C: Capability> Default for Set<C> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<C: Capability> FromIterator<C> for Set<C> {
    fn from_iter<I: IntoIterator<Item = C>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl<C: Capability, const N: usize> From<[C; N]> for Set<C> {
    fn from(capabilities: [C; N]) -> Self {
        capabilities.into_iter().collect()
    }
}

impl<C: Capability> fmt::Debug for Set<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Declares the abilities of a kind: the variants in the order in which they are shown, each with its name on the wire.
#[macro_export]
macro_rules! capabilities {
    ($(#[$about:meta])* pub enum $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[$doc])* $variant),+ }

        impl $crate::capabilities::Capability for $kind {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn index(self) -> u32 {
                self as u32
            }
        }

        // A set is a number of 32 bits.
        const _: () = assert!(<$kind as $crate::capabilities::Capability>::ALL.len() <= 32);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    capabilities! {
        /// Of a kind that nobody has.
        pub enum Ability {
            /// The first.
            Walk = "WALK",
            /// The second.
            Swim = "SWIM",
            /// The third.
            Fly = "FLY",
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let set = Set::from([Ability::Fly, Ability::Walk, Ability::Fly]);
        assert!(set.contains(Ability::Walk) && set.contains(Ability::Fly));
        assert!(!set.contains(Ability::Swim));
        assert_eq!(set.names().collect::<Vec<_>>(), ["WALK", "FLY"]);
        assert_eq!(set, Set::EMPTY.with(Ability::Walk).with(Ability::Fly));
        assert_eq!(Set::<Ability>::default().iter().next(), None);
    }
}
