//! What `HELP` says.

/// The lines of the reply to `HELP`: at most 80 columns, every example a request that works.
pub(super) const LINES: &[&str] = &[
    "Quince, a replicated key-value store. One line is one request:",
    "",
    "request                 what it does                 for example",
    "PUT key value           store a value                PUT pear 2.10 per kilo",
    "APPEND key value        add to the end of a value    APPEND pear , organic",
    "GET key                 read a value                 GET pear",
    "MGET key [key ...]      read values, at one moment   MGET pear plum",
    "DELETE key              remove a key                 DELETE pear",
    "CAS key expected new    replace an expected value    CAS pear 2.10 \"2.20 a kilo\"",
    "INCR key [by]           add to a 64-bit integer      INCR visits 5",
    "LIST [prefix]           keys in order, with values   LIST pe",
    "  [FROM key] [LIMIT n]  from there, so many at most  LIST pe FROM pear LIMIT 9",
    "EXPIRE key seconds      remove a key in that time    EXPIRE pear 3600",
    "TTL key                 how long it stays            TTL pear",
    "LOCAL ...               read what is known here      LOCAL GET pear",
    "SESSION                 open a session               SESSION",
    "ONCE session seq ...    write at most once           ONCE 12 1 INCR visits",
    "STATUS                  how this server is doing     STATUS",
    "PING                    get a PONG                   PING",
    "FAIL, RECOVER           stop, resume the acceptor    FAIL",
    "SLOW milliseconds       slow the disk, 0 ends it     SLOW 30",
    "HELP                    show these lines             HELP",
    "QUIT, EXIT              close the connection         QUIT",
    "",
    "PUT, APPEND take the rest of the line. Elsewhere, quote what has spaces or odd",
    "bytes: \"a b\" \"\" \"\\\" \\\\ \\n \\r \\t \\0 \\x7f\". Verbs may be small letters.",
    "PUT:key:value, GET:key and DELETE:key work too, and there nothing is quoted.",
];

#[cfg(test)]
mod tests {
    use super::super::{parse_request, write_request};
    use super::*;

    #[test]
    fn help_fits_a_terminal() {
        for line in LINES {
            assert!(line.len() <= 80, "{line}");
            assert!(line.bytes().all(|b| (b' '..0x7f).contains(&b)), "{line}");
        }
    }

    #[test]
    fn help_shows_each_request_with_an_example_that_works() {
        let table = || LINES.iter().filter(|line| line.get(52..53) == Some(" "));
        let examples: Vec<&str> = table().skip(1).map(|line| &line[53..]).collect();
        assert_eq!(examples.len(), 20);
        for example in examples {
            let request = parse_request(example.as_bytes()).expect(example);
            write_request(&mut Vec::new(), &request);
        }
        for verb in [
            "PUT", "APPEND", "GET", "MGET", "DELETE", "CAS", "INCR", "LIST", "EXPIRE", "TTL",
            "LOCAL", "SESSION", "ONCE", "STATUS", "PING", "FAIL", "RECOVER", "SLOW", "HELP",
            "QUIT", "EXIT",
        ] {
            assert!(table().any(|line| line[..24].contains(verb)), "{verb}");
        }
    }
}
