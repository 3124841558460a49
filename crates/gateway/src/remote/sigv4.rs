//! Amazon's signature, version 4, of a request whose body is at hand. Written by "Signature Version
//! 4 signing process" in AWS's documentation, and held to the examples that it publishes. Pure: the
//! time is an argument. Absent: signed URLs, bodies in signed chunks, and S3's own rules.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use ring::{digest, hmac};

use super::keys::Secret;

/// What is not escaped: letters, digits, and these four.
pub(super) const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signing<'a> {
    pub(super) method: &'a str,
    /// The path, escaped as it is sent.
    pub(super) path: &'a str,
    /// Names and values, not escaped.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// Names in lower case; `host` has to be there, `x-amz-date` comes of itself.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
}

/// Headers to be sent with what was signed.
pub(super) type Signed = Vec<(&'static str, String)>;

/// Signs a request by `ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]`.
pub(super) fn sign(signing: &Signing<'_>, key: &Secret) -> Result<Signed, &'static str> {
    let mut parts = key.text().splitn(3, ':').map(str::trim);
    let (Some(id), Some(secret), token) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it is written ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]");
    };
    let stamp = stamp(signing.now_ms);
    let day = &stamp[..8];
    let mut headers: Vec<(&str, &str)> = signing.headers.to_vec();
    headers.push(("x-amz-date", &stamp));
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");

    let scope = format!("{day}/{}/{}/aws4_request", signing.region, signing.service);
    let canonical = canonical(signing, &headers, &names);
    let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
    let first = format!("AWS4{secret}").into_bytes();
    let parts = [day, signing.region, signing.service, "aws4_request"];
    let key = parts.iter().fold(first, |key, part| code(&key, part.as_bytes()));
    let signature = hex(&code(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    let token = token.map(|token| ("x-amz-security-token", token.to_owned()));
    let own = [("authorization", authorization), ("x-amz-date", stamp)];
    Ok(own.into_iter().chain(token).collect())
}

/// The code that a key makes of a message.
fn code(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn canonical(signing: &Signing<'_>, headers: &[(&str, &str)], names: &str) -> String {
    let escape = |text: &str| percent_encode(text.as_bytes(), ESCAPED).to_string();
    // Each part of the path is escaped once more than it is sent.
    let path: Vec<String> = signing.path.split('/').map(escape).collect();
    let path = if signing.path.is_empty() { "/".to_owned() } else { path.join("/") };
    let mut query: Vec<(String, String)> =
        signing.query.iter().map(|(name, value)| (escape(name), escape(value))).collect();
    query.sort_unstable();
    let query: Vec<String> =
        query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lines: String = headers
        .iter()
        .map(|(name, value)| {
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            format!("{name}:{}\n", words.join(" "))
        })
        .collect();
    let body = hex(digest::digest(&digest::SHA256, signing.body).as_ref());
    format!("{}\n{path}\n{}\n{lines}\n{names}\n{body}", signing.method, query.join("&"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as `20150830T123600Z`.
fn stamp(now_ms: u64) -> String {
    let seconds = now_ms / 1000;
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Days to a date of the Gregorian calendar, counted in its cycles of 400 years from a 1st of
    // March, which begins the year so that a leap day ends it.
    let from_march = days + 719_468;
    let cycle = from_march.div_euclid(146_097);
    let day = from_march.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + cycle * 400 + later;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{date:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-08-30 12:36:00, the time of all of AWS's examples.
    const THEN: u64 = 1_440_938_160_000;

    #[test]
    fn times_are_written() {
        let check = |seconds: u64, expect| assert_eq!(stamp(seconds * 1000), expect);
        check(0, "19700101T000000Z");
        check(THEN / 1000, "20150830T123600Z");
        check(951_782_399, "20000228T235959Z");
        check(951_782_400, "20000229T000000Z");
        check(951_868_800, "20000301T000000Z");
        check(4_107_542_399, "21000228T235959Z");
        check(4_107_542_400, "21000301T000000Z");
    }

    fn signature(signing: &Signing<'_>, key: &str) -> String {
        let signed = sign(signing, &Secret::new(key)).expect("the key is one");
        let (_, authorization) = &signed[0];
        authorization.rsplit('=').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_published_examples_are_signed_alike() {
        const KEY: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let plain = Signing {
            method: "GET",
            path: "/",
            query: &[],
            headers: &[("host", "example.amazonaws.com")],
            body: b"",
            region: "us-east-1",
            service: "service",
            now_ms: THEN,
        };
        let check = |signing: Signing<'_>, expect: &str| {
            assert_eq!(signature(&signing, KEY), expect, "{signing:?}");
        };
        // get-vanilla, post-vanilla and get-vanilla-query-order-key-case of the test suite.
        check(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        check(
            Signing { method: "POST", ..plain },
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        let query: &[(&str, &str)] = &[("Param2", "value2"), ("Param1", "value1")];
        check(
            Signing { query, ..plain },
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        // The documentation's example: a list of IAM's users.
        let headers: &[(&str, &str)] = &[
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
        ];
        let query: &[(&str, &str)] = &[("Action", "ListUsers"), ("Version", "2010-05-08")];
        check(
            Signing { service: "iam", headers, query, ..plain },
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
    }

    #[test]
    fn a_session_is_signed_and_sent() {
        let signing = Signing {
            method: "POST",
            path: "/model/a%3A0/invoke",
            query: &[],
            headers: &[("host", "h")],
            body: b"{}",
            region: "eu-west-1",
            service: "bedrock",
            now_ms: THEN,
        };
        let signed = sign(&signing, &Secret::new("ID:SECRET:SESSION")).expect("a key");
        assert!(signed.contains(&("x-amz-security-token", "SESSION".to_owned())));
        assert!(signed[0].1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"));
        assert!(signed[0].1.contains("Credential=ID/20150830/eu-west-1/bedrock/aws4_request"));
        assert!(!signed.iter().any(|(_, value)| value.contains("SECRET")));
        let text = canonical(&signing, &[("host", "h")], "host");
        assert!(text.starts_with("POST\n/model/a%253A0/invoke\n\n"), "{text}");
        assert!(sign(&signing, &Secret::new("no colon")).is_err());
    }
}
