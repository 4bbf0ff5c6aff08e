"""Find out whether a secret is easy to guess, because a long one may still be."""

import re

NEEDED = 10
"""Characters that must be left of a secret without all that can be guessed from the rest of it."""

DIFFERENT = 6
"""Different characters among those. 16 random hexadecimal digits have fewer in one of 10,000 cases."""

WORDS = re.compile(
    "password|passwort|passwd|secret|changeme|change|default|example|please|random|letmein|admin|payonce|shop|sandbox|"
    "test|demo|dev|key|long|text|value|your|this|qwertyuiop|asdfghjkl|zxcvbnm|qwerty|asdf|zxcv|qwertz|azerty|1q2w3e4r"
)
REPEATED = re.compile(r"(.+?)\1+")


def is_guessable(secret: str) -> bool:
    """Return whether little is left of the secret without words of examples, repetitions and sequences."""
    left = WORDS.sub("", secret.casefold())
    left = REPEATED.sub(r"\1", left)
    left = _without_sequences(left)
    return len(left) < NEEDED or len(set(left)) < DIFFERENT


def _without_sequences(text: str) -> str:
    """Return the text without every character that continues a sequence such as abc, 987 or ace."""
    codes = [ord(each) for each in text]
    return text[:2] + "".join(
        text[n]
        for n in range(2, len(text))
        if codes[n] - codes[n - 1] != codes[n - 1] - codes[n - 2] or abs(codes[n] - codes[n - 1]) > 2
    )
