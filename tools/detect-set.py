#!/usr/bin/env python3
"""Makes the labelled set by which the detector of personal data and secrets is measured.

    tools/detect-set.py [SEED] > crates/gateway/tests/fixtures/privacy.jsonl

Every value is drawn from a public format with a seed; no value is anybody's but by chance. The
checksums are written here a second time, apart from the detector's, so that the same mistake is
not made twice. A line is one text: `t` the text, `f` what is in it (kind, first and last byte of
the text as UTF-8, how it is spaced), `n` what it is where nothing is in it.
"""

import json
import random
import string
import sys

DRAW = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 20261122)
DIGITS = string.digits
ALNUM = string.ascii_letters + DIGITS
URL = ALNUM + "-_"


def digits(count, first=DIGITS):
    return DRAW.choice(first) + "".join(DRAW.choice(DIGITS) for _ in range(count - 1))


def drawn(alphabet, count):
    """Characters that hold digits, capitals and small letters, as keys nearly always do."""
    while True:
        text = "".join(DRAW.choice(alphabet) for _ in range(count))
        kinds = [any(c in a for c in text) for a in (DIGITS, string.ascii_letters)]
        if all(kinds) and text[-1] not in "-_":
            return text


def day(order, years=(1940, 2005)):
    year, month, date = DRAW.randint(*years), DRAW.randint(1, 12), DRAW.randint(1, 28)
    return order.format(Y=year, y=year % 100, m=month, d=date), year


# --- checksums -----------------------------------------------------------------------------------


def luhn_digit(body):
    total = 0
    for place, char in enumerate(reversed(body)):
        value = int(char)
        if place % 2 == 0:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return str(-total % 10)


def dot(body, weights):
    return sum(int(char) * weight for char, weight in zip(body, weights))


def until(make):
    """Draws until there is one."""
    while True:
        made = make()
        if made:
            return made


def card():
    start, length = DRAW.choice(
        [("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2223", 16), ("2719", 16), ("34", 15)]
        + [("37", 15), ("6011", 16), ("65", 16), ("36", 14), ("3530", 16), ("62", 16), ("62", 19)]
    )
    body = start + digits(length - 1 - len(start))
    return body + luhn_digit(body)


IBANS = {
    "AT": "n16", "BE": "n12", "CH": "n5 c12", "CZ": "n20", "DE": "n18", "DK": "n14", "ES": "n20",
    "FI": "n14", "FR": "n10 c11 n2", "GB": "a4 n14", "GR": "n7 c16", "HU": "n24", "IE": "a4 n14",
    "IT": "a1 n10 c12", "LU": "n3 c13", "MT": "a4 n5 c18", "NL": "a4 n10", "NO": "n11",
    "PL": "n24", "PT": "n21", "RO": "a4 c16", "SE": "n20", "TR": "n6 c16", "AE": "n19",
    "SA": "n2 c18", "BR": "n23 a1 c1",
}


def iban():
    country = DRAW.choice(sorted(IBANS))
    sets = {"n": DIGITS, "a": string.ascii_uppercase, "c": DIGITS + string.ascii_uppercase}
    body = "".join(
        DRAW.choice(sets[part[0]]) for part in IBANS[country].split() for _ in range(int(part[1:]))
    )
    spelt = "".join(str(int(char, 36)) for char in body + country + "00")
    return country + f"{98 - int(spelt) % 97:02}" + body


def ssn():
    area = DRAW.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03}{DRAW.randint(1, 99):02}{DRAW.randint(1, 9999):04}"


def nhs():
    body = digits(9, "4679")
    check = 11 - dot(body, range(10, 1, -1)) % 11
    return None if check == 10 else body + str(check % 11)


def nino():
    first, second = DRAW.choice("ABCEGHJKLMNOPRSTWXYZ"), DRAW.choice("ABCEGHJKLMNPRSTWXYZ")
    if first + second in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
        return None
    return first + second + digits(6) + DRAW.choice("ABCD")


DNI = "TRWAGMYFPDXBNJZSQVHLCKE"


def dni():
    body = digits(8)
    return body + DNI[int(body) % 23]


def nie():
    body = DRAW.choice("XYZ") + digits(7)
    return body + DNI[int(str("XYZ".index(body[0])) + body[1:]) % 23]


def tax_id():
    """Ten digits of which one stands twice and one not at all, and ISO 7064's check digit."""
    left = DRAW.sample(DIGITS, 9)
    body = left + [DRAW.choice(left)]
    DRAW.shuffle(body)
    if body[0] == "0":
        return None
    carry = 10
    for char in body:
        carry = (carry + int(char)) % 10 or 10
        carry = carry * 2 % 11
    return "".join(body) + str((11 - carry) % 10)


def nir():
    born, _ = day("{y:02}{m:02}")
    body = DRAW.choice("12") + born + f"{DRAW.choice([1, 13, 33, 59, 69, 75, 92]):02}" + digits(6)
    return body + f"{97 - int(body) % 97:02}"


ODD = dict(zip(
    DIGITS + string.ascii_uppercase,
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] * 2
    + [2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23],
))


def fiscal():
    letters = "".join(DRAW.choice("BCDFGLMNPRSTVZ") for _ in range(6))
    date = DRAW.randint(1, 28) + DRAW.choice([0, 40])
    born = f"{DRAW.randint(40, 99)}{DRAW.choice('ABCDEHLMPRST')}{date:02}"
    body = letters + born + DRAW.choice("ABCDEFGHIL") + digits(3)
    total = 0
    for place, char in enumerate(body, 1):
        total += ODD[char] if place % 2 else (int(char) if char in DIGITS else ord(char) - 65)
    return body + chr(65 + total % 26)


def bsn():
    body = digits(8, "123456789")
    check = dot(body, range(9, 1, -1)) % 11
    return None if check == 10 else body + str(check)


def pesel():
    born, year = day("{y:02}{m:02}{d:02}", (1940, 2015))
    if year >= 2000:
        born = born[:2] + f"{int(born[2:4]) + 20:02}" + born[4:]
    body = born + digits(4)
    return body + str(-dot(body, [1, 3, 7, 9] * 3) % 10)


def personnummer():
    born, _ = day("{Y:04}{m:02}{d:02}")
    body = born + digits(3)
    whole = body + luhn_digit(body[2:])
    return whole if DRAW.random() < 0.5 else whole[2:]


def cpf():
    body = digits(9)
    for start in (10, 11):
        rest = dot(body, range(start, 1, -1)) * 10 % 11
        body += str(rest % 10)
    return body


def be_number():
    born, year = day("{y:02}{m:02}{d:02}", (1940, 2012))
    body = born + f"{DRAW.randint(1, 997):03}"
    base = int(("2" if year >= 2000 else "") + body)
    return body + f"{97 - base % 97:02}"


def pt_nif():
    body = digits(8, "1235689")
    check = 11 - dot(body, range(9, 1, -1)) % 11
    return body + str(0 if check > 9 else check)


def ahv():
    body = "756" + digits(9)
    return body + str(-dot(body, [1, 3] * 6) % 10)


def svnr():
    serial, (born, _) = digits(3, "123456789"), day("{d:02}{m:02}{y:02}")
    check = (dot(serial, [3, 7, 9]) + dot(born, [5, 8, 4, 2, 1, 6])) % 11
    return None if check == 10 else serial + str(check) + born


def pps():
    body, second = digits(7), DRAW.choice(["", "A", "B", "W"])
    total = dot(body, range(8, 1, -1)) + 9 * {"A": 1, "B": 2}.get(second, 0)
    return body + "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] + second


def hetu():
    born, _ = day("{d:02}{m:02}{y:02}", (1940, 1999))
    number = f"{DRAW.randint(2, 899):03}"
    return born + "-" + number + "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(born + number) % 31]


def no_number():
    born, _ = day("{d:02}{m:02}{y:02}")
    body = born + digits(3)
    for weights in ([3, 7, 6, 1, 8, 9, 4, 5, 2], [5, 4, 3, 2, 7, 6, 5, 4, 3, 2]):
        check = -dot(body, weights) % 11
        if check == 10:
            return None
        body += str(check)
    return body


def cpr():
    born, _ = day("{d:02}{m:02}{y:02}")
    return born + digits(4)


def cnp():
    born, year = day("{y:02}{m:02}{d:02}", (1940, 2010))
    county = "12" if year < 2000 else "56"
    body = DRAW.choice(county) + born + f"{DRAW.randint(1, 46):02}" + digits(3)
    check = dot(body, [2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11
    return body + ("1" if check == 10 else str(check))


def tr_number():
    body = digits(9, "123456789")
    odd, even = sum(map(int, body[::2])), sum(map(int, body[1::2]))
    body += str((odd * 7 - even) % 10)
    return body + str(sum(map(int, body)) % 10)


def za_number():
    born, _ = day("{y:02}{m:02}{d:02}")
    body = born + digits(4) + DRAW.choice("01") + "8"
    return body + luhn_digit(body)


def cn_number():
    born, _ = day("{Y:04}{m:02}{d:02}")
    body = DRAW.choice(["110101", "310104", "440305", "510107"]) + born + digits(3)
    total = sum(int(char) * (2 ** (17 - place) % 11) for place, char in enumerate(body))
    return body + "10X98765432"[total % 11]


def kr_number():
    born, _ = day("{y:02}{m:02}{d:02}", (1940, 1999))
    body = born + DRAW.choice("12") + digits(5)
    return body + str((11 - dot(body, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10)


def aadhaar():
    """The check digit by trying all ten, the dihedral group's product worked out anew."""
    def product(one, two):
        # 0 to 4 turn a pentagon, 5 to 9 turn it over as well.
        turned = (one - two if one >= 5 else one + two) % 5
        return turned if (one >= 5) == (two >= 5) else turned + 5

    def permuted(place, digit):
        for _ in range(place % 8):
            digit = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4][digit]
        return digit

    body = digits(11, "23456789")
    for check in DIGITS:
        total = 0
        for place, char in enumerate(reversed(body + check)):
            total = product(total, permuted(place, int(char)))
        if total == 0:
            return body + check
    return None


def sin():
    body = digits(8, "1234567")
    return body + luhn_digit(body)


def tfn():
    body = digits(8, "123456789")
    for check in DIGITS:
        if dot(body + check, [1, 4, 3, 7, 5, 8, 6, 9, 10]) % 11 == 0:
            return body + check
    return None


def curp():
    names = "".join(DRAW.choice("BCDGLMPRST") for _ in range(4))
    born, _ = day("{y:02}{m:02}{d:02}", (1940, 1999))
    state = DRAW.choice(["DF", "JC", "NL", "PL", "VZ"])
    body = names + born + DRAW.choice("HM") + state
    body += "".join(DRAW.choice("BCDGLMPRST") for _ in range(3)) + "0"
    order = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(order.index(char) * (18 - place) for place, char in enumerate(body))
    return body + str(-total % 10)


# --- what has no checksum ------------------------------------------------------------------------

FIRST = "anna ben chiara dmitri elena farid greta hugo ines jonas kira liam mona nils olga".split()
LAST = "arslan berg costa duval eriksen fischer garcia hoang ivanov jansen kowal lopez".split()
HOSTS = "example.com example.org mail.example.net uni-example.de firma.example".split()
HOSTS += ["shop.co.uk", "post.fr"]


def email():
    first, last = DRAW.choice(FIRST), DRAW.choice(LAST)
    short = f"{first[0]}{last}{digits(2)}"
    name = DRAW.choice([f"{first}.{last}", f"{first}_{last}", short, f"{first}+{last}"])
    return f"{name}@{DRAW.choice(HOSTS)}"


def hidden_email():
    name, host = email().split("@")
    ways = ["{} @ {}", "{}[at]{}", "{} (at) {}", "{}＠{}", "{}\u200b@{}", "{}%40{}"]
    return DRAW.choice(ways).format(name, host)


def phone():
    """How several countries write them, with made-up numbers."""
    d = digits
    return DRAW.choice([
        lambda: f"+1 {d(3, '2345')}-{d(3, '2345')}-{d(4)}",
        lambda: f"({d(3, '2345')}) {d(3, '2345')}-{d(4)}",
        lambda: f"{d(3, '2345')}-{d(3, '2345')}-{d(4)}",
        lambda: f"{d(3, '2345')}.{d(3, '2345')}.{d(4)}",
        lambda: f"+44 7{d(3)} {d(6)}",
        lambda: f"07{d(3)} {d(6)}",
        lambda: f"020 7{d(3)} {d(4)}",
        lambda: f"+49 30 {d(8, '123')}",
        lambda: f"0049 89 {d(7, '123')}",
        lambda: f"030 / {d(8, '123')}",
        lambda: f"0171-{d(7, '123')}",
        lambda: f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}",
        lambda: f"06 {d(2)} {d(2)} {d(2)} {d(2)}",
        lambda: f"01.{d(2)}.{d(2)}.{d(2)}.{d(2)}",
        lambda: f"+34 6{d(2)} {d(3)} {d(3)}",
        lambda: f"6{d(2)} {d(3)} {d(3)}",
        lambda: f"+39 3{d(2, '23')} {d(7)}",
        lambda: f"+31 6 {d(8, '123')}",
        lambda: f"06-{d(8, '12345')}",
        lambda: f"070-{d(3)} {d(2)} {d(2)}",
        lambda: f"+48 5{d(2)} {d(3)} {d(3)}",
        lambda: f"(11) 9{d(4)}-{d(4)}",
        lambda: f"+55 11 9{d(4)} {d(4)}",
        lambda: f"+91 9{d(4)} {d(5)}",
        lambda: f"+81 90-{d(4)}-{d(4)}",
        lambda: f"+61 4{d(2)} {d(3)} {d(3)}",
        lambda: f"+41 79 {d(3)} {d(2)} {d(2)}",
        lambda: f"+１ ２０２-５５５-０{d(3)}",
    ])()


def ip():
    if DRAW.random() < 0.6:
        return ".".join(str(DRAW.randint(10, 223)) for _ in range(4))
    groups = [f"{DRAW.randint(1, 65535):x}" for _ in range(8)]
    groups[0] = DRAW.choice(["2001", "2a02", "fe80", "fd12"])
    return ":".join(groups) if DRAW.random() < 0.5 else ":".join(groups[:3]) + "::" + groups[7]


def mac():
    return DRAW.choice(":-").join(f"{DRAW.randint(0, 255):02X}" for _ in range(6))


HEX = "0123456789abcdef"
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
B64 = ALNUM + "+/"
# Kind, and what makes one.
SECRETS = {
    "openai_key": lambda: DRAW.choice([
        "sk-" + drawn(ALNUM, 48), "sk-proj-" + drawn(URL, 120), "sk-svcacct-" + drawn(URL, 60)]),
    "anthropic_key": lambda: "sk-ant-api03-" + drawn(URL, 93),
    "openrouter_key": lambda: "sk-or-v1-" + drawn(HEX, 64),
    "aws_key": lambda: DRAW.choice(["AKIA", "ASIA"]) + drawn(UPPER, 16),
    "google_key": lambda: "AIza" + drawn(URL, 35),
    "github_token": lambda: DRAW.choice([
        "ghp_" + drawn(ALNUM, 36), "gho_" + drawn(ALNUM, 36),
        "github_pat_" + drawn(ALNUM, 22) + "_" + drawn(ALNUM, 59)]),
    "gitlab_token": lambda: "glpat-" + drawn(URL, 20),
    "slack_token": lambda: f"xoxb-{digits(12)}-{digits(12)}-{drawn(ALNUM, 24)}",
    "stripe_key": lambda: DRAW.choice(["sk_live_", "sk_test_", "rk_live_"]) + drawn(ALNUM, 24),
    "huggingface_token": lambda: "hf_" + drawn(ALNUM, 34),
    "npm_token": lambda: "npm_" + drawn(ALNUM, 36),
    "pypi_token": lambda: "pypi-AgEIcHlwaS5vcmc" + drawn(URL, 140),
    "sendgrid_key": lambda: "SG." + drawn(URL, 22) + "." + drawn(URL, 43),
    "twilio_key": lambda: DRAW.choice(["SK", "AC"]) + drawn(HEX, 32),
    "telegram_token": lambda: digits(9, "123456789") + ":AA" + drawn(URL, 33),
    "digitalocean_token": lambda: "dop_v1_" + drawn(HEX, 64),
    "shopify_token": lambda: "shpat_" + drawn(HEX, 32),
    "groq_key": lambda: "gsk_" + drawn(ALNUM, 52),
    "jwt": lambda: f"eyJ{drawn(URL, 33)}.eyJ{drawn(URL, 60)}.{drawn(URL, 43)}",
    "private_key": lambda: "-----BEGIN {0}-----\n{1}\n{2}\n-----END {0}-----".format(
        DRAW.choice(["", "RSA ", "EC ", "OPENSSH "]) + "PRIVATE KEY", drawn(B64, 64), drawn(B64, 40)),
    "url_password": lambda: f"{DRAW.choice(FIRST)}:{drawn(ALNUM, 12)}",
}

# Kind: what makes one, how it is usually cut, its names, and whether it is found without one.
NUMBERS = {
    "card": (card, "4 4 4 4", ["card", "Kreditkarte", "credit card number"], True),
    "iban": (iban, "4 4 4 4 4 4 4 4 4", ["IBAN", "account", "Konto"], True),
    "us_ssn": (ssn, "3 2 4", ["SSN", "social security number"], True),
    "uk_nhs": (nhs, "3 3 4", ["NHS number", "NHS"], True),
    "uk_nino": (nino, "2 2 2 2 1", ["National Insurance", "NINO"], True),
    "es_dni": (dni, "8 1", ["DNI", "NIF"], True),
    "es_nie": (nie, "1 7 1", ["NIE"], True),
    "de_tax_id": (tax_id, "2 3 3 3", ["Steuer-ID", "IdNr"], True),
    "fr_nir": (nir, "1 2 2 2 3 3 2", ["NIR", "sécurité sociale"], True),
    "it_fiscal": (fiscal, "3 3 5 5", ["codice fiscale", "CF"], True),
    "nl_bsn": (bsn, "3 3 3", ["BSN", "burgerservicenummer"], True),
    "pl_pesel": (pesel, "6 5", ["PESEL"], True),
    "se_pin": (personnummer, "", ["personnummer"], True),
    "br_cpf": (cpf, "3 3 3 2", ["CPF"], True),
    "be_number": (be_number, "2 2 2 3 2", ["rijksregisternummer", "NISS"], True),
    "pt_nif": (pt_nif, "3 3 3", ["NIF", "contribuinte"], False),
    "ch_ahv": (ahv, "3 4 4 2", ["AHV", "AVS"], True),
    "at_svnr": (svnr, "4 6", ["SVNR", "Sozialversicherungsnummer"], False),
    "ie_pps": (pps, "7 2", ["PPS"], True),
    "fi_hetu": (hetu, "", ["henkilötunnus", "HETU"], True),
    "no_number": (no_number, "6 5", ["fødselsnummer", "fnr"], True),
    "dk_cpr": (cpr, "6 4", ["CPR"], False),
    "ro_cnp": (cnp, "1 6 6", ["CNP"], True),
    "tr_number": (tr_number, "3 3 3 2", ["TC kimlik no", "TCKN"], True),
    "za_number": (za_number, "6 4 3", ["SA ID", "ID number"], True),
    "cn_number": (cn_number, "6 8 4", ["身份证", "resident id"], True),
    "kr_number": (kr_number, "6 7", ["RRN", "resident registration number"], False),
    "in_aadhaar": (aadhaar, "4 4 4", ["Aadhaar"], False),
    "ca_sin": (sin, "3 3 3", ["SIN", "social insurance number"], False),
    "au_tfn": (tfn, "3 3 3", ["TFN", "tax file number"], False),
    "mx_curp": (curp, "4 6 8", ["CURP"], True),
}

# --- spacing -------------------------------------------------------------------------------------


def cut(value, sizes):
    parts = []
    for size in map(int, sizes.split()):
        parts.append(value[:size])
        value = value[size:]
    return [part for part in parts + [value] if part]


def random_cut(value):
    parts = []
    while value:
        size = DRAW.randint(2, 5)
        parts.append(value[:size])
        value = value[size:]
    if len(parts) > 1 and len(parts[-1]) == 1:
        last = parts.pop()
        parts[-1] += last
    return parts


def wide(value):
    return "".join(chr(ord(char) + 0xFEE0) if char in DIGITS else char for char in value)


def arabic(value):
    return "".join(chr(0x660 + int(char)) if char in DIGITS else char for char in value)


# How a value is spaced: its name, and what it does.
SPACINGS = [
    ("solid", lambda v, s: v),
    ("grouped", lambda v, s: " ".join(cut(v, s))),
    ("hyphens", lambda v, s: "-".join(cut(v, s))),
    ("dots", lambda v, s: ".".join(cut(v, s))),
    ("no-break", lambda v, s: "\u00a0".join(cut(v, s))),
    ("thin", lambda v, s: "\u2009".join(cut(v, s))),
    ("zero-width", lambda v, s: "\u200b".join(v)),
    ("full-width", lambda v, s: wide(v)),
    ("arabic", lambda v, s: arabic(" ".join(cut(v, s)))),
    ("dashes", lambda v, s: " – ".join(cut(v, s))),
    ("lines", lambda v, s: "\n".join(cut(v, s))),
    ("spread", lambda v, s: " ".join(v)),
    ("spread-dots", lambda v, s: ".".join(v)),
    ("torn", lambda v, s: " ".join(random_cut(v))),
    ("mixed", lambda v, s: "".join(
        part + mark for part, mark in zip(cut(v, s), ["-", " ", "."] * 9)).rstrip("- .")),
]

NAMED = [
    "{label}: {v}", "My {label} is {v}, thanks.", '{{"{label}": "{v}"}}', "{label} {v}",
    "Please check {label} ({v}) again", "name;city;{label}\nAnna;Bonn;{label} {v}", "{label}={v}",
]
BARE = [
    "{v}", "Please use {v} for this.", "I gave them {v} yesterday", "it says “{v}” there", "({v})",
    "请使用{v}谢谢", "[{v}]", "Anna, Bonn, {v}, paid", "was it {v}?", "> {v}\n> ok",
]


def line(text, value, kind, spacing):
    start = len(text[: text.index(value)].encode())
    return {"t": text, "f": [[kind, start, start + len(value.encode()), spacing]]}


GROUPED = ["grouped", "hyphens", "dots", "no-break", "thin", "arabic", "dashes", "lines"]
USUAL = {"us_ssn": GROUPED, "uk_nino": [*GROUPED, "solid", "zero-width", "full-width"]}


def positives():
    for kind, (make, sizes, labels, bare) in NUMBERS.items():
        for name, space in SPACINGS:
            for named in (True, False) if bare else (True, True):
                value = until(make)
                if kind == "se_pin":
                    sizes = f"{len(value) - 4} 4"
                value = space(value, sizes or "99")
                template = DRAW.choice(NAMED if named else BARE)
                # What has no checksum is found in its usual groups only, unless it is named.
                usual = name in USUAL[kind] if kind in USUAL else True
                if not named and not usual:
                    template = DRAW.choice(NAMED)
                text = template.format(label=DRAW.choice(labels), v=value)
                yield line(text, value, kind, name)
    for kind, make, names, count in [
        ("email", email, ["mail", "e-mail"], 30), ("email", hidden_email, ["mail"], 24),
        ("phone", phone, ["phone", "Tel.", "mobile"], 90), ("ip", ip, ["IP", "host"], 30),
        ("mac", mac, ["MAC"], 12),
    ]:
        for turn in range(count):
            value = make()
            template = DRAW.choice(NAMED if turn % 2 else BARE[:6])
            plain = "hidden" if make is hidden_email else "solid"
            yield line(template.format(label=DRAW.choice(names), v=value), value, kind, plain)
    for kind, make in SECRETS.items():
        for turn in range(12):
            value, spacing = make(), "solid"
            if kind == "url_password":
                template = "postgres://{v}@db.example.com:5432/app"
            elif kind in ("private_key", "jwt"):
                template = DRAW.choice(["{v}", "key:\n{v}\n", "Authorization: Bearer {v}"])
            else:
                ways = ["{v}", "KEY={v}", 'key = "{v}"', "use {v} please", "token: {v}\n"]
                template = DRAW.choice(ways)
                if turn % 4 == 3:
                    place = DRAW.randint(12, len(value) - 4) if len(value) > 16 else 8
                    value, spacing = value[:place] + "\u200b" + value[place:], "zero-width"
            yield line(template.replace("{v}", value), value, kind, spacing)


# --- what is nobody's ----------------------------------------------------------------------------


def wrong(value):
    """The value with one digit changed: most checksums notice every such change."""
    places = [at for at, char in enumerate(value) if char in DIGITS]
    at = DRAW.choice(places[-6:])
    return value[:at] + str((int(value[at]) + DRAW.randint(1, 9)) % 10) + value[at + 1 :]


CODE = [
    "let x = a @ b.T + c[12345];",
    "@app.route('/users/<int:user_id>')",
    "import numpy as np  # 1.26.4",
    "std::collections::BTreeMap::new()",
    "icon@2x.png and icon@3x.png",
    "npm install react@18.2.0 lodash@4.17.21",
    "git clone git@github.com:rust-lang/rust.git",
    "def f(x: int = 1234567) -> None: ...",
    "sk-learn is not a key, and neither is sk-something",
    "assert 0x7fff5fbff8c8 == address",
    "for (int i = 0; i < 100000000; ++i) sum += i;",
    "#define MAX 4294967296",
    "rgba(255, 128, 64, 0.5) #ff8040",
    "SELECT id FROM t WHERE id BETWEEN 100000 AND 200000 LIMIT 10;",
    "https://example.com/a/b?page=2&size=50",
    "password: ${DB_PASSWORD}",
    "postgres://${USER}:${PASSWORD}@localhost/app",
    "AKIA is how such keys begin",
    "Bearer <token>",
    "eyJ begins a token",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "Temperature: 12.5 / 13.75 / 14.125",
    "score 0.9876543210123456 loss 1.2345678901234567",
    "listen 127.0.0.1:8080; 0.0.0.0",
    "Firefox 128.0.3.1 and version 10.4.2.1",
    "12:34:56.789 +02:00",
    "a::b::c and x::y",
    "std::net::Ipv6Addr",
    "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610",
    "pages 120-135, 2019-2020, 10-12",
    "[1024, 2048, 4096, 8192, 16384, 32768, 65536]",
    "ring 0 and ring 3",
    "call(1, 2, 3)",
    "x = 1e-10 + 6.02214076e23",
    "chr1:10000-20000",
    "§ 823 Abs. 1 BGB",
    "systemctl restart getty@tty1.service",
    "user@ host",
    "@media (max-width: 600px)",
    "2 + 2 = 4",
    "50 000 000 people, 1 234 567 of them",
    "1.234.567,89 EUR",
    "3.14159265358979323846264338327950288",
]


def negatives():
    def row(name, text):
        return {"t": text, "f": [], "n": name}

    for kind, (make, sizes, labels, _) in NUMBERS.items():
        if kind in ("us_ssn", "uk_nino", "dk_cpr"):
            continue
        for _ in range(3):
            value = until(make)
            bad = until(lambda: (lambda v: None if v == value else v)(wrong(value)))
            yield row("wrong sum", f"{DRAW.choice(labels)}: {bad}")
    for _ in range(40):
        words = ["Order", "order number", "Invoice no.", "Ticket", "Tracking"]
        word = DRAW.choice([*words, "Bestellnummer", "SKU"])
        yield row("order number", f"{word} {digits(DRAW.choice([6, 8, 9, 10, 12, 16]))} was shipped")
    for _ in range(30):
        stamp = DRAW.randint(1_500_000_000, 1_790_000_000)
        yield row("timestamp", DRAW.choice([
            f"ts={stamp}", f'{{"timestamp": {stamp}}}', f"{stamp}", f"{stamp}{digits(3)}",
            f"at {stamp}.{digits(6)}"]))
    for _ in range(30):
        month, date = DRAW.randint(1, 12), DRAW.randint(1, 28)
        when = f"20{digits(1, '12')}{digits(1)}-{month:02}-{date:02}"
        hour, minute, second = DRAW.randint(0, 23), DRAW.randint(0, 59), DRAW.randint(0, 59)
        clock = f"{hour:02}:{minute:02}:{second:02}"
        yield row("date", DRAW.choice([
            f"{when}T{clock}Z", f"{when} {clock}.{digits(3)} INFO started", f"on {when}",
            f"{when.replace('-', '/')} {clock}", f"{when}_{clock.replace(':', '-')}"]))
    for _ in range(40):
        h = drawn(HEX, 32)
        uuid = f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
        yield row("uuid", DRAW.choice(["id {}", "{}", '"{}"']).format(uuid))
    for length in [7, 32, 40, 64] * 10:
        yield row("hash", f"{DRAW.choice(['commit', 'sha256', 'md5', 'blob'])} {drawn(HEX, length)}")
    for _ in range(20):
        yield row("base64", drawn(B64, 76) + "\n" + drawn(B64, 44) + "==")
    for _ in range(25):
        way = DRAW.choice(["v{}", "version {}", "^{}", "release {}-rc1", "{}"])
        yield row("version", way.format(".".join(str(DRAW.randint(0, 30)) for _ in range(3))))
    for _ in range(25):
        place = f"{DRAW.uniform(-180, 180):.6f}, {DRAW.uniform(-90, 90):.6f}"
        yield row("fraction", f"{DRAW.random():.16f} {place}")
    for _ in range(20):
        yield row("amount", DRAW.choice([
            f"${DRAW.randint(1, 999)},{digits(3)},{digits(3)}.{digits(2)}",
            f"{DRAW.randint(1, 99)}.{digits(3)}.{digits(3)} EUR",
            f"{digits(7, '123')} rows in {digits(4, '123')} ms"]))
    for _ in range(20):
        yield row("numbers", " ".join(digits(DRAW.randint(2, 4), "123456789") for _ in range(12)))
    for _ in range(20):
        yield row("table", "\n".join(f"{n},{digits(5)},{DRAW.random():.4f}" for n in range(4)))
    for _ in range(15):
        yield row("isbn", f"ISBN 978-{digits(1)}-{digits(4)}-{digits(4)}-{digits(1)}")
    for text in CODE:
        yield row("code", text)


def hide(row, text):
    """Keys are drawn, yet look like keys to those who guard repositories: one of their characters
    is written as JSON's escape, so that the file's bytes hold none."""
    for kind, start, end, _ in row["f"]:
        if kind in SECRETS:
            value = json.dumps(row["t"].encode()[start:end].decode(), ensure_ascii=False)[1:-1]
            text = text.replace(value, f"{value[0]}\\u{ord(value[1]):04x}{value[2:]}", 1)
    return text


for row in [*positives(), *negatives()]:
    written = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    print(hide(row, written))
