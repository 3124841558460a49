//! Words that name what stands behind them: "BSN", "Telefon", or "order", which says that a number
//! is none of what is looked for. Absent: any understanding of sentences.

use aho_corasick::{AhoCorasick, MatchKind};

use super::Kind;
use super::fold::Folded;

/// How far before a number its name may end, in characters.
const REACH: usize = 48;

/// What names things that are none of the kinds.
const OTHERS: &[&str] = &[
    "order",
    "orders",
    "order no",
    "order number",
    "order id",
    "invoice",
    "invoice no",
    "ticket",
    "tracking",
    "tracking number",
    "sku",
    "isbn",
    "ean",
    "upc",
    "gtin",
    "issn",
    "doi",
    "build",
    "version",
    "release",
    "revision",
    "commit",
    "timestamp",
    "epoch",
    "unix time",
    "ts",
    "article",
    "item",
    "part number",
    "part no",
    "serial",
    "serial number",
    "case",
    "case no",
    "case number",
    "batch",
    "lot",
    "issue",
    "pr",
    "pull request",
    "row",
    "rows",
    "line",
    "offset",
    "size",
    "bytes",
    "population",
    "pid",
    "port",
    "seed",
    "hash",
    "checksum",
    "crc",
    "transaction",
    "shipment",
    "bestellnummer",
    "rechnung",
    "rechnungsnummer",
    "auftrag",
    "commande",
    "facture",
    "pedido",
    "factura",
    "ordine",
    "fattura",
    "bestelling",
    "factuur",
    "width",
    "height",
    "latitude",
    "longitude",
    "duration",
    "elapsed",
    "total",
    "amount",
    "price",
    "revenue",
    "count",
    "index",
];

/// A kind's names, in lower case. Both ends have to be a word's.
const NAMES: &[(Kind, &[&str])] = &[
    (
        Kind::Phone,
        &[
            "phone",
            "telephone",
            "tel",
            "mobile",
            "cell",
            "cellphone",
            "fax",
            "call",
            "call me at",
            "whatsapp",
            "sms",
            "text me at",
            "dial",
            "phone number",
            "ph",
            "contact number",
            "telefon",
            "telefonnummer",
            "handy",
            "handynummer",
            "mobil",
            "mobilnummer",
            "rufnummer",
            "telefoon",
            "telefoonnummer",
            "mobiel",
            "portable",
            "telefono",
            "cellulare",
            "celular",
            "telefone",
            "téléphone",
            "teléfono",
            "móvil",
            "phonenumber",
            "tél",
            "movil",
            "numer telefonu",
            "telefonnr",
            "ring",
            "hotline",
            "landline",
        ],
    ),
    (
        Kind::Card,
        &[
            "card",
            "card number",
            "credit card",
            "debit card",
            "cc",
            "pan",
            "visa",
            "mastercard",
            "amex",
            "kreditkarte",
            "kreditkartennummer",
            "carte",
            "carte bancaire",
            "tarjeta",
            "carta di credito",
            "creditcard",
            "karta",
            "cartão",
            "cartao",
            "cardnumber",
            "card no",
            "kort",
        ],
    ),
    (Kind::UsSsn, &["ssn", "social security", "social security number", "soc sec", "ss#"]),
    (Kind::UkNhs, &["nhs", "nhs number", "nhs no", "chi number"]),
    (Kind::UkNino, &["nino", "ni number", "ni no", "national insurance"]),
    (Kind::IePps, &["pps", "ppsn", "pps number", "pps no"]),
    (Kind::FiHetu, &["hetu", "henkilötunnus", "henkilotunnus"]),
    (Kind::EsDni, &["dni", "nif", "documento", "documento nacional de identidad"]),
    (
        Kind::DeTaxId,
        &[
            "steuer-id",
            "steuerid",
            "steuer-idnr",
            "idnr",
            "steueridentifikationsnummer",
            "tin",
            "identifikationsnummer",
            "steuerliche identifikationsnummer",
            "tax id",
        ],
    ),
    (
        Kind::FrNir,
        &[
            "nir",
            "numéro de sécurité sociale",
            "numero de securite sociale",
            "sécurité sociale",
            "securite sociale",
            "insee",
            "carte vitale",
        ],
    ),
    (Kind::NlBsn, &["bsn", "burgerservicenummer", "sofinummer", "sofi", "citizen service number"]),
    (Kind::PlPesel, &["pesel", "numer pesel"]),
    (Kind::SePin, &["personnummer", "personnr", "samordningsnummer", "pnr"]),
    (Kind::BrCpf, &["cpf", "cadastro de pessoas"]),
    (
        Kind::BeNumber,
        &[
            "rijksregisternummer",
            "rijksregisternr",
            "insz",
            "niss",
            "numéro national",
            "numero national",
            "registre",
        ],
    ),
    (
        Kind::PtNif,
        &["nif", "contribuinte", "número de contribuinte", "numero de contribuinte", "nif number"],
    ),
    (Kind::ChAhv, &["ahv", "avs", "ahv-nummer", "ahv-nr", "ahvn13", "no avs"]),
    (
        Kind::AtSvnr,
        &["svnr", "sv-nummer", "sozialversicherungsnummer", "versicherungsnummer", "sv-nr"],
    ),
    (Kind::NoNumber, &["fødselsnummer", "fodselsnummer", "fnr", "personnummer", "d-nummer"]),
    (Kind::DkCpr, &["cpr", "cpr-nummer", "cpr-nr", "cpr nummer"]),
    (Kind::RoCnp, &["cnp", "cod numeric personal"]),
    (Kind::TrNumber, &["tc", "tckn", "tc kimlik", "tc kimlik no", "kimlik no", "t.c. kimlik no"]),
    (Kind::ZaNumber, &["sa id", "id number", "rsa id", "south african id"]),
    (Kind::KrNumber, &["rrn", "resident registration number"]),
    (Kind::InAadhaar, &["aadhaar", "aadhar", "uidai", "aadhaar number", "aadhaar no"]),
    (
        Kind::CaSin,
        &["sin", "social insurance", "social insurance number", "numero d'assurance sociale"],
    ),
    (Kind::AuTfn, &["tfn", "tax file number", "tax file no"]),
    (Kind::Ip, &["ip", "ip address", "ipv4", "ip-adresse", "host", "server", "client", "addr"]),
];

/// Who is named before a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Near {
    /// All kinds that are, a bit each.
    kinds: u64,
    /// Those that are named last.
    last: u64,
    /// Whether what is named last is none of the kinds.
    other: bool,
}

impl Near {
    /// Whether the kind is named.
    pub(super) fn names(self, kind: Kind) -> bool {
        self.kinds >> (kind as u32) & 1 == 1
    }

    /// Whether the kind is the one that is named last.
    pub(super) fn names_last(self, kind: Kind) -> bool {
        self.last >> (kind as u32) & 1 == 1
    }

    /// Whether something is named last that is not this kind.
    pub(super) fn denies(self, kind: Kind) -> bool {
        (self.other || self.last != 0) && !self.names(kind)
    }
}

/// All names, ready to be looked for.
#[derive(Debug)]
pub(super) struct Labels {
    words: AhoCorasick,
    /// What each word names; 0 for what is none of the kinds.
    named: Vec<u64>,
}

impl Labels {
    pub(super) fn new() -> Self {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut named: Vec<u64> = Vec::new();
        let rows = NAMES.iter().map(|(kind, names)| (1_u64 << (*kind as u32), *names));
        for (bit, names) in rows.chain([(0, OTHERS)]) {
            for name in names {
                let name = Folded::new(name).bytes.into_owned();
                match words.iter().position(|word| *word == name) {
                    Some(at) => named[at] |= bit,
                    None => {
                        words.push(name);
                        named.push(bit);
                    }
                }
            }
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(words)
            .expect("a few hundred short words are no automaton too large");
        Self { words, named }
    }

    /// What is named before this place.
    pub(super) fn before(&self, bytes: &[u8], at: usize) -> Near {
        let start = at.saturating_sub(REACH);
        let text = &bytes[start..at];
        let letter = |place: usize| place < at && bytes[place].is_ascii_alphabetic();
        let mut near = Near::default();
        let mut last_end = 0;
        let mut last_start = usize::MAX;
        for found in self.words.find_overlapping_iter(text) {
            let (from, to) = (found.start(), found.end());
            let begun = (start + from).checked_sub(1).is_some_and(letter);
            if begun || letter(start + to) {
                continue;
            }
            let bit = self.named[found.pattern().as_usize()];
            near.kinds |= bit;
            // Of names that end together the longest counts: "order number" is no number.
            if to > last_end || (to == last_end && from < last_start) {
                (last_end, last_start) = (to, from);
                near.last = bit;
                near.other = bit == 0;
            } else if to == last_end && from == last_start {
                near.last |= bit;
            }
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_counts() {
        let labels = Labels::new();
        let check = |text: &str, kind: Kind, names: bool, denies: bool| {
            let near = labels.before(text.as_bytes(), text.len());
            assert_eq!((near.names(kind), near.denies(kind)), (names, denies), "{text:?}");
        };
        check("BSN: ", Kind::NlBsn, true, false);
        check("order ", Kind::NlBsn, false, true);
        check("order 12, bsn ", Kind::NlBsn, true, false);
        check("border ", Kind::NlBsn, false, false);
        check("your tel. ", Kind::Phone, true, false);
        check("the hotel ", Kind::Phone, false, false);
        check("phone ", Kind::NlBsn, false, true);
        check("NIF ", Kind::PtNif, true, false);
        check("NIF ", Kind::EsDni, true, false);
    }
}
