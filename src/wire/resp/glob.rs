//! Patterns of keys, as in `KEYS` and `SCAN ... MATCH`.
//!
//! | pattern | matches |
//! | --- | --- |
//! | `*` | any bytes, also none |
//! | `?` | any one byte |
//! | `[abc]`, `[a-z]`, `[^a]` | one byte of these, of this range, not of these |
//! | `\` and a byte | that byte |
//! | any other byte | itself |
//!
//! As in Redis, a `[` that is not closed ends with the pattern, a range may be written backwards, and
//! a `\` at the very end means itself.
//!
//! A pattern never takes exponential time: once a later `*` has been reached, what the earlier ones
//! took need not be tried again. So the work is at most the length of the pattern times that of the
//! key.

/// The longest pattern, in bytes: enough to escape each byte of the longest key, or give it a class.
pub const PATTERN_BYTES_MAX: usize = 4_096;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// `*`
    Many,
    /// `?`
    One,
    /// Itself.
    Byte(u8),
    /// `[...]`: which bytes, a bit each.
    Class([u64; 4]),
}

impl Step {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Many => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Class(bits) => has(bits, byte),
        }
    }
}

fn has(bits: &[u64; 4], byte: u8) -> bool {
    bits[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

fn set(bits: &mut [u64; 4], byte: u8) {
    bits[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

/// A pattern, ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Step>);

impl Pattern {
    /// Reads a pattern. Any bytes are one.
    pub fn new(text: &[u8]) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some((&first, after)) = rest.split_first() {
            let step;
            (step, rest) = match (first, after) {
                (b'*', _) => (Step::Many, after),
                (b'?', _) => (Step::One, after),
                (b'[', _) => class(after),
                (b'\\', [byte, after @ ..]) => (Step::Byte(*byte), after),
                (byte, _) => (Step::Byte(byte), after),
            };
            // Two `*` side by side are one.
            if step != Step::Many || steps.last() != Some(&Step::Many) {
                steps.push(step);
            }
        }
        Self(steps)
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let steps = &self.0;
        let (mut step, mut at) = (0, 0);
        // What stands behind the last `*`, and up to where that has taken bytes.
        let mut many = None;
        while at < text.len() {
            match steps.get(step) {
                Some(Step::Many) => {
                    step += 1;
                    many = Some((step, at));
                }
                Some(own) if own.takes(text[at]) => {
                    step += 1;
                    at += 1;
                }
                // The last `*` takes one byte more, and what follows it is tried anew.
                _ => match &mut many {
                    None => return false,
                    Some((behind, taken)) => {
                        *taken += 1;
                        (step, at) = (*behind, *taken);
                    }
                },
            }
        }
        steps[step..].iter().all(|step| *step == Step::Many)
    }

    /// What every match begins with.
    pub fn prefix(&self) -> Vec<u8> {
        let byte = |step: &Step| match step {
            Step::Byte(byte) => Some(*byte),
            _ => None,
        };
        self.0.iter().map_while(byte).collect()
    }
}

/// Reads a class behind its `[`, and returns what follows it.
fn class(mut rest: &[u8]) -> (Step, &[u8]) {
    let mut bits = [0; 4];
    let not = rest.first() == Some(&b'^');
    if not {
        rest = &rest[1..];
    }
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', byte, after @ ..] => {
                set(&mut bits, *byte);
                after
            }
            [from, b'-', to, after @ ..] => {
                for byte in *from.min(to)..=*from.max(to) {
                    set(&mut bits, byte);
                }
                after
            }
            [byte, after @ ..] => {
                set(&mut bits, *byte);
                after
            }
        };
    }
    if not {
        bits = bits.map(|part| !part);
    }
    (Step::Class(bits), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::new(pattern.as_bytes());
        for text in matching {
            assert!(compiled.matches(text.as_bytes()), "{pattern} {text}");
            assert!(text.as_bytes().starts_with(&compiled.prefix()), "{pattern}");
        }
        for text in others {
            assert!(!compiled.matches(text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_match_as_in_redis() {
        check("", &[""], &["a"]);
        check("pear", &["pear"], &["pea", "pears", "Pear", ""]);
        check("*", &["", "a", "abc"], &[]);
        check("p*r", &["pr", "pear", "prr"], &["p", "pears", "r"]);
        check("**a**", &["a", "bab"], &["", "b"]);
        check("p?ar", &["pear", "p?ar"], &["par", "peear"]);
        check("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]);
        check("h[a-c]t", &["hat", "hct"], &["hdt", "h-t"]);
        check("h[c-a]t", &["hat", "hct"], &["hdt"]);
        check("h[^e]t", &["hat", "h^t"], &["het", "ht"]);
        check("[a-]", &["a", "]", "^"], &["-", "b"]);
        check("[-a]", &["-", "a"], &["b"]);
        check("[\\]]", &["]"], &["\\"]);
        check("[a\\-z]", &["a", "-", "z"], &["b"]);
        check("[]", &[], &["", "a", "]"]);
        check("[^]", &["a", "]"], &[""]);
        check("[ab", &["a", "b"], &["c", "[ab"]);
        check("\\*", &["*"], &["a", "\\*"]);
        check("a\\", &["a\\"], &["a"]);
        check(
            "user:*:[0-9]",
            &["user::1", "user:x:y:2"],
            &["user:1", "user:x:10"],
        );
    }

    #[test]
    fn the_prefix_ends_where_a_match_may_differ() {
        for (pattern, prefix) in [("", ""), ("pe*", "pe"), ("pe?r", "pe"), ("\\*a[b]", "*a")] {
            assert_eq!(Pattern::new(pattern.as_bytes()).prefix(), prefix.as_bytes());
        }
    }

    /// By trying every length for each `*` this would take longer than the universe.
    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = Pattern::new(&b"a*".repeat(PATTERN_BYTES_MAX / 2));
        assert!(!pattern.matches(&[&b"a".repeat(1_023)[..], b"b"].concat()));
        let pattern = Pattern::new(&[&b"*a".repeat(500)[..], b"b"].concat());
        assert!(!pattern.matches(&b"a".repeat(1_024)));
    }

    /// The same by trying everything.
    fn slowly(steps: &[Step], text: &[u8]) -> bool {
        match steps.split_first() {
            None => text.is_empty(),
            Some((Step::Many, rest)) => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            Some((step, rest)) => {
                text.first().is_some_and(|&byte| step.takes(byte)) && slowly(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn quick_matching_finds_what_trying_everything_finds(
            pattern in vec(prop::sample::select(&b"ab*?[]^-\\"[..]), 0..10),
            text in vec(prop::sample::select(&b"ab-]"[..]), 0..10),
        ) {
            let pattern = Pattern::new(&pattern);
            prop_assert_eq!(pattern.matches(&text), slowly(&pattern.0, &text));
        }
    }
}
