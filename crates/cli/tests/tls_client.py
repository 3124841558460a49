"""OpenAI's own client against `ingle serve` over TLS, with SSL_CERT_FILE naming its certificate.

What it can do besides is in openai_client.py; here it is whether TLS changes any of it.
"""

import ssl
import urllib.request

import openai

import checks
from checks import KEY, URL, fails_with

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=120)
MESSAGES = [{"role": "user", "content": "Count to three."}]


def ask(**more):
    return client.chat.completions.create(
        model="smollm2", messages=MESSAGES, temperature=0, max_tokens=12, **more
    )


def check_whole_and_streamed_are_the_same():
    whole = ask().choices[0].message.content
    parts = [chunk.choices[0].delta.content or "" for chunk in ask(stream=True) if chunk.choices]
    assert whole and "".join(parts) == whole, (whole, parts)


def check_a_closed_stream_is_cancelled():
    stream = client.chat.completions.create(
        model="smollm2", messages=MESSAGES, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    checks.idle()


def check_a_client_that_does_not_know_the_certificate():
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    error = fails_with(OSError, lambda: urllib.request.urlopen(f"{URL}/health", context=stranger))
    assert "CERTIFICATE_VERIFY_FAILED" in str(error), error


def check_old_versions_are_refused():
    old = ssl.create_default_context()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    fails_with(OSError, lambda: urllib.request.urlopen(f"{URL}/health", context=old))


checks.run(globals())
