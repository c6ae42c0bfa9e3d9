//! A row of the settings table: one setting and the doors it comes in by.

use crate::{Kind, Settings};

/// What every annotation of Dapr begins with.
pub const ANNOTATION_PREFIX: &str = "dapr.io/";

/// A way for a setting to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Flags of daprd.
    Flag,
    /// Annotations of a pod.
    Annotation,
    /// Environment variables of daprd.
    Environment,
    /// Flags of `dapr run`.
    Run,
}

/// The flag of `dapr run` for a setting.
#[derive(Clone, Copy, Debug)]
pub struct RunFlag {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter form.
    pub short: Option<char>,
    /// What it is without the flag; ports and numbers below zero mean unset.
    pub default: &'static str,
}

/// One setting. Names stand without dashes and without the annotation prefix.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The field of [`Settings`].
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Flag of daprd.
    pub flag: Option<&'static str>,
    /// Annotation on the pod.
    pub annotation: Option<&'static str>,
    /// Environment variable, read when the flag is absent.
    pub environment: Option<&'static str>,
    /// Flag of `dapr run`.
    pub run: Option<RunFlag>,
    /// What daprd assumes; shown in help, filled in by [`Settings::resolve`].
    pub default: &'static str,
    /// What the injector passes when the pod says nothing; such rows are always emitted.
    pub injected: Option<&'static str>,
    /// The flag that has to be on for this row to mean anything.
    pub only_with: Option<&'static str>,
    /// False is said as well (`--flag=false`), because leaving the flag out means something else.
    pub three_states: bool,
    /// A blank annotation means "none" rather than "not given".
    pub blank_counts: bool,
    /// Quotes around an annotation's value are not part of it.
    pub unquoted: bool,
    /// An annotation at or below zero means "not given".
    pub positive: bool,
    /// What to use instead, for flags on their way out.
    pub deprecated: Option<&'static str>,
    /// Left out of help.
    pub hidden: bool,
    /// One line for help and reference.
    pub help: &'static str,
    pub(crate) access: Access,
}

/// How the table reaches a field of [`Settings`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// Reads a text into the field.
    pub(crate) read: fn(&mut Settings, &str, Door) -> Result<(), String>,
    /// The field as text, if it is set.
    pub(crate) text: fn(&Settings) -> Option<String>,
    /// Unsets the field.
    pub(crate) clear: fn(&mut Settings),
}

/// The doors of a row while the table is written; the field's name, type and access join in the table.
pub(crate) const fn row(help: &'static str) -> Row {
    Row {
        name: "",
        kind: Kind::Text,
        flag: None,
        annotation: None,
        environment: None,
        run: None,
        default: "",
        injected: None,
        only_with: None,
        three_states: false,
        blank_counts: false,
        unquoted: false,
        positive: false,
        deprecated: None,
        hidden: false,
        help,
        access: Access {
            read: |_, _, _| Ok(()),
            text: |_| None,
            clear: |_| (),
        },
    }
}

impl Row {
    pub(crate) const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    pub(crate) const fn annotation(mut self, name: &'static str) -> Self {
        self.annotation = Some(name);
        self
    }

    pub(crate) const fn environment(mut self, name: &'static str) -> Self {
        self.environment = Some(name);
        self
    }

    pub(crate) const fn run(
        mut self,
        name: &'static str,
        short: Option<char>,
        default: &'static str,
    ) -> Self {
        self.run = Some(RunFlag {
            name,
            short,
            default,
        });
        self
    }

    pub(crate) const fn default(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }

    pub(crate) const fn injected(mut self, text: &'static str) -> Self {
        self.injected = Some(text);
        self
    }

    pub(crate) const fn only_with(mut self, flag: &'static str) -> Self {
        self.only_with = Some(flag);
        self
    }

    pub(crate) const fn three_states(mut self) -> Self {
        self.three_states = true;
        self
    }

    pub(crate) const fn blank_counts(mut self) -> Self {
        self.blank_counts = true;
        self
    }

    pub(crate) const fn unquoted(mut self) -> Self {
        self.unquoted = true;
        self
    }

    pub(crate) const fn positive(mut self) -> Self {
        self.positive = true;
        self
    }

    pub(crate) const fn deprecated(mut self, advice: &'static str) -> Self {
        self.deprecated = Some(advice);
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}
