//! Checksums, each as those who issue the numbers say it. Digits are numbers from 0 to 9, not
//! characters, and as many as the row says that calls one. Absent: how numbers stand in texts.

/// Every second digit from the right is doubled; digits' sum (ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The sum of digits times weights, as far as there are both.
pub(super) fn weighed(digits: &[u8], weights: &[i32]) -> i32 {
    digits.iter().zip(weights).map(|(digit, weight)| i32::from(*digit) * weight).sum()
}

/// The number that these digits write.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |all, digit| all.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

/// ISO 7064, MOD 11,10.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// ISO 7064, MOD 97-10, over digits and capitals: the remainder, which is 1 where it is right.
pub(super) fn mod_97(characters: impl Iterator<Item = u8>) -> u32 {
    characters.fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    })
}

/// The dihedral group's table of products, of which Verhoeff's checksum is made.
const DIHEDRAL: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];
/// Verhoeff's permutation, which is applied once more a place.
const PERMUTED: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];

/// Verhoeff's.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    let mut sum = 0;
    for (at, digit) in digits.iter().rev().enumerate() {
        let turns = at % 8;
        let digit = (0..turns).fold(usize::from(*digit) % 10, |digit, _| PERMUTED[digit]);
        sum = DIHEDRAL[usize::from(sum)][digit];
    }
    sum == 0
}

/// A day and a month that may be.
pub(super) fn date(day: u8, month: u8) -> bool {
    (1..=31).contains(&day) && (1..=12).contains(&month)
}

/// Two digits as a number.
pub(super) fn pair(digits: &[u8], at: usize) -> u8 {
    match digits.get(at..at + 2) {
        Some([tens, ones]) => tens * 10 + ones,
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn published_examples_are_right_and_their_neighbours_wrong() {
        let check = |name: &str, sum: fn(&[u8]) -> bool, example: &str| {
            let right = digits(example);
            assert!(sum(&right), "{name} of {example}");
            for at in 0..right.len() {
                let mut wrong = right.clone();
                wrong[at] = (wrong[at] + 1) % 10;
                assert!(!sum(&wrong), "{name} of {example}, digit {at} wrong");
            }
        };
        check("Luhn", luhn, "4111111111111111");
        check("Luhn", luhn, "378282246310005");
        check("ISO 7064", mod_11_10, "86095742719");
        check("Verhoeff", verhoeff, "2363");
        let right = "DE89370400440532013000";
        let turned = right[4..].bytes().chain(right[..4].bytes());
        assert_eq!(mod_97(turned), 1);
    }
}
