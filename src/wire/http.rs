//! HTTP, which is never answered: a web page must not write.
//!
//! A browser lets any page send a request to any port, with a body of its own, if only the page does not
//! want to see the answer. To a server of lines, the body is lines. So the first line that only HTTP begins
//! with ends the connection, as in Redis: `POST`, and the header `Host:`, which stands before the body of
//! every request whatever its method.

/// Whether a line begins with a word of HTTP that is none of a request.
pub(crate) fn is_http(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let begins = |word: &[u8]| {
        line.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let ends_at = |at: usize| line.get(at).is_none_or(u8::is_ascii_whitespace);
    begins(b"POST") && ends_at(4) || begins(b"HOST:")
}

/// What whoever sent it is told.
pub(crate) const REFUSED: &str =
    "expected a request, found HTTP, which a web page may have sent: nothing after it is read";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_http_are_taken_for_it() {
        for line in [
            "POST / HTTP/1.1",
            "post",
            "POST\r",
            " \tPost /",
            "Host: localhost:7001",
            "hOST:localhost",
            "HOST:",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            "POSTS",
            "POS",
            "POST: x",
            "Host",
            "Host : x",
            "PUT POST x",
            "PUT Host: x",
            "GET / HTTP/1.1",
            "\"POST\" x",
        ] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
