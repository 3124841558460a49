//! The kinds of what is found, a row each. How each is found stands elsewhere: in `numbers.rs`,
//! `iban.rs`, `phones.rs`, `addresses.rs` and `secrets.rs`.

/// What a kind belongs to, so that a policy can name many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// How a person is reached: e-mail, phone.
    Contact,
    /// Where money is: cards and accounts.
    Money,
    /// Numbers that a state gives a person.
    Identity,
    /// A machine's addresses.
    Network,
    /// What opens doors: keys, tokens, passwords.
    Secret,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Contact, Self::Money, Self::Identity, Self::Network, Self::Secret];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Money => "money",
            Self::Identity => "identity",
            Self::Network => "network",
            Self::Secret => "secret",
        }
    }

    /// The group of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// What is known of a kind.
#[derive(Clone, Copy, Debug)]
struct Row {
    kind: Kind,
    name: &'static str,
    group: Group,
    tag: &'static str,
    checked: bool,
    says: &'static str,
}

/// One row a kind: its name here and in policies, its group, the word of its placeholders,
/// whether a checksum vouches for it, and what it is in words.
macro_rules! kinds {
    ($($kind:ident $name:literal $group:ident $tag:literal $checked:literal $says:literal;)*) => {
        /// What was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $says] $kind,)*
        }

        const ROWS: &[Row] = &[$(Row {
            kind: Kind::$kind,
            name: $name,
            group: Group::$group,
            tag: $tag,
            checked: $checked,
            says: $says,
        },)*];
    };
}

kinds! {
    Email "email" Contact "EMAIL" false "An e-mail address.";
    Phone "phone" Contact "PHONE" false "A phone number, international or as a country writes it.";
    Card "card" Money "CARD" true "A payment card's number.";
    Iban "iban" Money "IBAN" true "A bank account's number (IBAN).";
    UsSsn "us_ssn" Identity "SSN" false "A Social Security number of the USA.";
    UkNhs "uk_nhs" Identity "NHS" true "An NHS number of the United Kingdom.";
    UkNino "uk_nino" Identity "NINO" false "A National Insurance number of the United Kingdom.";
    EsDni "es_dni" Identity "DNI" true "A DNI of Spain.";
    EsNie "es_nie" Identity "NIE" true "A foreigner's NIE of Spain.";
    DeTaxId "de_tax_id" Identity "TAXID" true "A Steuer-ID of Germany.";
    FrNir "fr_nir" Identity "NIR" true "A social security number (NIR) of France.";
    ItFiscal "it_fiscal" Identity "FISCAL" true "A codice fiscale of Italy.";
    NlBsn "nl_bsn" Identity "BSN" true "A BSN of the Netherlands.";
    PlPesel "pl_pesel" Identity "PESEL" true "A PESEL of Poland.";
    SePin "se_pin" Identity "PIN" true "A personnummer of Sweden.";
    BrCpf "br_cpf" Identity "CPF" true "A CPF of Brazil.";
    BeNumber "be_number" Identity "RRN" true "A national number of Belgium.";
    PtNif "pt_nif" Identity "NIF" true "A NIF of Portugal.";
    ChAhv "ch_ahv" Identity "AHV" true "An AHV number of Switzerland.";
    AtSvnr "at_svnr" Identity "SVNR" true "A social insurance number of Austria.";
    IePps "ie_pps" Identity "PPS" true "A PPS number of Ireland.";
    FiHetu "fi_hetu" Identity "HETU" true "A personal identity code of Finland.";
    NoNumber "no_number" Identity "FNR" true "A fødselsnummer of Norway.";
    DkCpr "dk_cpr" Identity "CPR" false "A CPR number of Denmark.";
    RoCnp "ro_cnp" Identity "CNP" true "A CNP of Romania.";
    TrNumber "tr_number" Identity "TCKN" true "An identity number of Turkey.";
    ZaNumber "za_number" Identity "ZAID" true "An identity number of South Africa.";
    CnNumber "cn_number" Identity "CNID" true "A resident identity number of China.";
    KrNumber "kr_number" Identity "KRRN" true "A resident registration number of South Korea.";
    InAadhaar "in_aadhaar" Identity "AADHAAR" true "An Aadhaar number of India.";
    CaSin "ca_sin" Identity "SIN" true "A social insurance number of Canada.";
    AuTfn "au_tfn" Identity "TFN" true "A tax file number of Australia.";
    MxCurp "mx_curp" Identity "CURP" true "A CURP of Mexico.";
    Ip "ip" Network "IP" false "An IP address, version 4 or 6.";
    Mac "mac" Network "MAC" false "A network card's address.";
    Jwt "jwt" Secret "JWT" false "A JSON Web Token.";
    PrivateKey "private_key" Secret "PRIVATEKEY" false "A private key in PEM.";
    UrlPassword "url_password" Secret "URLPASSWORD" false "A name and password in a URL.";
    Anthropic "anthropic_key" Secret "ANTHROPICKEY" false "A key of Anthropic's.";
    OpenAi "openai_key" Secret "OPENAIKEY" false "A key of OpenAI's, or of the same form.";
    OpenRouter "openrouter_key" Secret "OPENROUTERKEY" false "A key of OpenRouter's.";
    Aws "aws_key" Secret "AWSKEY" false "An access key id of AWS, or the secret beside its name.";
    Google "google_key" Secret "GOOGLEKEY" false "An API key, token or client secret of Google's.";
    GitHub "github_token" Secret "GITHUBTOKEN" false "A token of GitHub's.";
    GitLab "gitlab_token" Secret "GITLABTOKEN" false "A token of GitLab's.";
    Slack "slack_token" Secret "SLACKTOKEN" false "A token or webhook of Slack's.";
    Stripe "stripe_key" Secret "STRIPEKEY" false "A secret or restricted key of Stripe's.";
    HuggingFace "huggingface_token" Secret "HFTOKEN" false "A token of Hugging Face's.";
    Npm "npm_token" Secret "NPMTOKEN" false "A token of npm's.";
    PyPi "pypi_token" Secret "PYPITOKEN" false "A token of the Python package index.";
    SendGrid "sendgrid_key" Secret "SENDGRIDKEY" false "A key of SendGrid's.";
    Twilio "twilio_key" Secret "TWILIOKEY" false "An API key or account of Twilio's.";
    Telegram "telegram_token" Secret "TELEGRAMTOKEN" false "A bot's token of Telegram's.";
    DigitalOcean "digitalocean_token" Secret "DOTOKEN" false "A token of DigitalOcean's.";
    Shopify "shopify_token" Secret "SHOPIFYTOKEN" false "A token of Shopify's.";
    Groq "groq_key" Secret "GROQKEY" false "A key of Groq's.";
    Xai "xai_key" Secret "XAIKEY" false "A key of xAI's.";
    Replicate "replicate_token" Secret "REPLICATETOKEN" false "A token of Replicate's.";
    Age "age_key" Secret "AGEKEY" false "A secret key of age's.";
}

impl Kind {
    /// All of them, in the table's order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ROWS.iter().map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its name in policies and receipts, such as `email` or `es_dni`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The kind of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// What it belongs to.
    pub fn group(self) -> Group {
        self.row().group
    }

    /// Whether a checksum vouches for each that is found.
    pub fn checked(self) -> bool {
        self.row().checked
    }

    /// The word that its placeholders begin with; no two kinds have the same.
    pub fn tag(self) -> &'static str {
        self.row().tag
    }

    /// What it is, in words.
    pub fn says(self) -> &'static str {
        self.row().says
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_own_row_name_and_tag() {
        for (at, kind) in Kind::all().enumerate() {
            assert_eq!(kind as usize, at, "{kind:?}");
            assert_eq!(Kind::named(kind.name()), Some(kind));
            assert!(kind.tag().bytes().all(|byte| byte.is_ascii_uppercase()), "{kind:?}");
        }
        assert_eq!(Kind::all().map(Kind::tag).collect::<BTreeSet<_>>().len(), Kind::all().len());
        assert_eq!(Kind::named("name"), None);
        assert!(Group::ALL.iter().all(|group| Group::named(group.name()) == Some(*group)));
        assert!(Group::ALL.iter().all(|group| Kind::named(group.name()).is_none()));
    }
}
