//! Whatever bytes flip, once and again: `open` never panics, never returns what was not appended, and
//! returns everything or says what it lacks.

use super::super::record::tests::any_record;
use super::super::snapshot;
use super::snapshots::store;
use super::*;
use proptest::prelude::*;

/// Records of one commit. No promises: they do not go back, as random ones would; accepts promise too.
fn any_group(least: usize) -> impl Strategy<Value = Vec<Record>> {
    let record = any_record().prop_filter("no promise", |r| !matches!(r, Record::Promise(_)));
    proptest::collection::vec(record, least..4)
}

/// A byte of some file is changed.
#[derive(Debug, Clone)]
struct Flip {
    file: usize,
    at: usize,
    mask: u8,
}

fn any_flips() -> impl Strategy<Value = Vec<Flip>> {
    let flip = (any::<usize>(), any::<usize>(), 1..=u8::MAX);
    let flip = flip.prop_map(|(file, at, mask)| Flip { file, at, mask });
    proptest::collection::vec(flip, 1..6)
}

/// Changes the bytes, mostly where there is text.
fn flip(dir: &MemDir, flips: &[Flip]) {
    for Flip { file, at, mask } in flips {
        let names = dir.list().unwrap();
        let name = &names[file % names.len()];
        let mut bytes = dir.read(name).unwrap();
        let text = 1 + bytes.iter().rposition(|&b| b != 0).unwrap_or(0);
        let at = at % (text + 8).min(bytes.len());
        bytes[at] ^= mask;
        dir.put_file(name, &bytes);
    }
}

/// Whether `records` are some of `all`: what is about slots in its order, hard state wherever a segment
/// carries it on.
fn are_of(records: &[Record], all: &[Record]) -> bool {
    let is_hard = |r: &&Record| {
        !matches!(
            r,
            Record::Accept(..) | Record::Learn(..) | Record::Decided(..)
        )
    };
    let mut rest = all.iter();
    let in_order = records
        .iter()
        .filter(|r| !is_hard(r))
        .all(|record| rest.any(|r| r == record));
    let mut hard = records.iter().filter(is_hard);
    in_order && hard.all(|record| *record == Record::Lost || carried(record, all))
}

/// Whether a segment may carry this: a promise may come from an accept, a trim from what undid a higher
/// one.
fn carried(record: &Record, all: &[Record]) -> bool {
    match record {
        Record::Promise(ballot) => {
            all.contains(record) || {
                let by_accept = |r: &Record| matches!(r, Record::Accept(b, ..) if b == ballot);
                all.iter().any(by_accept)
            }
        }
        Record::Trim(slot) => all.contains(record) || all.contains(&Record::Untrim(*slot)),
        record => all.contains(record),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_flips_are_silent(
        groups in proptest::collection::vec(any_group(1), 1..14),
        trim in any::<bool>(),
        flips in any_flips(),
        later in any_group(0),
        again in any_flips(),
    ) {
        let dir = MemDir::new();
        let mut log = new_log(&dir, TINY);
        for group in &groups {
            commit(&mut log, group);
        }
        if trim {
            snapshot::write(&dir, &store(9)).unwrap();
            log.trim(Slot(9)).unwrap().run().unwrap();
        }
        let mut appended = log.read_all().unwrap();
        let mut before = appended.clone();
        drop(log);
        for flips in [&flips, &again] {
            flip(&dir, flips);
            let (mut log, recovery) = open(&dir, TINY);
            let records = recovery.records;
            let told = !recovery.damage.is_empty() || recovery.cut.is_some();
            // The second flips may mend what the first ones broke.
            prop_assert!(told || are_of(&before, &records));
            prop_assert!(are_of(&records, &appended), "{records:?} of {appended:?}");
            prop_assert_eq!(&log.read_all().unwrap(), &records);
            commit(&mut log, &later);
            appended.extend_from_slice(&later);
            before = log.read_all().unwrap();
            let (_, third) = open(&dir, TINY);
            prop_assert_eq!((&third.records, third.damage, third.cut), (&before, vec![], None));
        }
    }
}
