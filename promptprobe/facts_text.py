"""A prompt's surface: weights and LoRA tags, quoted text, names, numbers, and whether it is English at all.

Comes in: any text. Goes out: a `Surface`; what is left for the reading has none of these marks. At most `LONGEST`
characters are looked at, in time that grows with the length only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from .facts_words import TOKEN, known_words, noun, plain, singular

LONGEST = 10_000
_QUOTED = re.compile(
    r"\"([^\"\n]{1,500})\"|“([^“”\n]{1,500})[”\"]|„([^„“”\n]{1,500})[“”]|«([^«»\n]{1,500})»|「([^「」\n]{1,500})」"
    r"|『([^『』\n]{1,500})』|＂([^＂\n]{1,500})＂|‘((?:[^‘’\n]|(?<=\w)’(?=\w)){1,300})’(?!\w)"
    r"|(?<![\w'])'(?=[^\s'])((?:[^'\n]|(?<=\w)'(?=\w)){1,300})'(?!\w)"
)
_TAG = re.compile(r"<[a-z]+:[^<>\s]{1,120}>|\bembedding:\S{1,80}", re.IGNORECASE)
_FLAG = re.compile(r"(?:^|\s)--[a-z]{1,20}(?:\s+(?!--)[\w.:/,]+)?", re.IGNORECASE)
_WEIGHT = re.compile(r":\s?-?\d*\.?\d+(?=\s*[)\]])|::-?\d*\.?\d+")
# Lenses, apertures and film speeds say how a photo looks, not what it shows.
_CAMERA = re.compile(
    r"\bf ?/ ?\d{1,2}(?:\.\d)?\b|\bf\d\.\d\b|\biso ?\d{2,5}\b|\b(?!35 ?mm)\d{1,4} ?mm(?: (?:prime )?(?:lens|film))?\b",
    re.IGNORECASE,
)
# 16:9 is no count of what stands behind it.
_RATIO = re.compile(
    r"(?P<article>\b(?:an?|the) )?(?<![\w:.])\d{1,5}:\d{1,5}(?![\w:]|\.\d)(?: (?:aspect )?ratio\b)?", re.IGNORECASE
)
# What the sky does and the noun for it are one thing.
_SUN = re.compile(
    r"\b(?:the )?sun (?:(?:is|was|just|slowly|now) ){0,3}(sets|rises|setting|rising|goes down|going down|comes up|coming up)\b"
    r"|\b(?:the )?(setting|rising) sun\b",
    re.IGNORECASE,
)
_FALL = re.compile(r"\b(snow|rain)fall\b", re.IGNORECASE)
_BOUNDARY = re.compile(r"\b(?:BREAK|AND)\b")
_SPOKEN = re.compile(
    r"\b(?:says?|saying|reads?|reading|spell(?:s|ing)?|titled|labell?ed|named|words?|text|letters)\s+"
    r"((?:[A-Z0-9][\w'&!?]*)(?:\s+[A-Z0-9][\w'&!?]*){0,5})"
)
_FOREIGN_MARKS = frozenset("äöüßñçãõøåæœğışłńśźżąęőűřěůčšžđțșăâêîôûëï¿¡ơưạảấầẩẫậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ")
_TEXT_WORDS = {"hd", "uhd", "hdr", "dslr", "cgi", "ufo", "tv", "dj", "usa", "uk", "nyc", "ai", "3d", "2d", "led", "rgb"}


@dataclass(frozen=True)
class Surface:
    """A prompt without its marks. `text` is for the reading; the others are to be found again letter for letter."""

    text: str
    quoted: tuple[str, ...]
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    codes: tuple[str, ...]  # words of letters and digits, such as R2D2
    tags: tuple[str, ...]  # <lora:name:0.8>
    language: str  # "english", else what it looks like
    cut: bool  # longer than LONGEST


def surface(prompt: str) -> Surface:
    """Take the marks off a prompt."""
    text = unicodedata.normalize("NFC", prompt[:LONGEST])
    tags = tuple(dict.fromkeys(_TAG.findall(text)))
    text = _TAG.sub(" , ", text)
    quoted = [" ".join(next(g for g in m.groups() if g).split()) for m in _QUOTED.finditer(text)]
    text = _QUOTED.sub(" § ", text)
    text = _FLAG.sub(" , ", text).replace("’", "'")
    text = _CAMERA.sub(" , ", _WEIGHT.sub(" ", text))
    # Brackets of attention are marks; round ones around a number are how counts are typed: "boats (2)".
    text = re.sub(r"[\[\]{}()\\]+", " ", text)
    text = _BOUNDARY.sub(" . ", text)
    text = _RATIO.sub(lambda m: m["article"] or " , ", text)
    language = _language(text)
    if language == "english":
        text = _FALL.sub(r"falling \1", _SUN.sub(_of_the_sun, text))
        quoted += [s for s in _spoken(text) if s not in quoted]
        text = _SPOKEN.sub(lambda m: m.group(0)[: m.start(1) - m.start(0)] + " § ", text)
    return Surface(
        text,
        tuple(dict.fromkeys(q for q in quoted if q)),
        _names(text, language),
        tuple(_numbers(text)),
        tuple(_codes(text)) if language == "english" else (),
        tags,
        language,
        len(prompt) > LONGEST,
    )


def _of_the_sun(found: re.Match[str]) -> str:
    return "sunrise" if (found[1] or found[2]).lower().startswith(("ris", "com")) else "sunset"


def tokens_of(text: str) -> list[str]:
    """The words and the punctuation of a text, in its own letters; hyphens part words."""
    return TOKEN.findall(_unhyphen(text))


def has_text(wanted: str, text: str) -> bool:
    """Does `text` hold the quoted `wanted` letter for letter, as whole words?"""
    wanted, text = (" ".join(t.replace("’", "'").split()) for t in (wanted, unicodedata.normalize("NFC", text)))
    for found in re.finditer(re.escape(wanted), text):
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        if not (_joins(before, wanted[:1]) or _joins(wanted[-1:], after)):
            return True
    return False


def numbers_in(text: str) -> set[int]:
    """All numbers of a text: digits of any script, and number words of the languages that we know them of."""
    found = set(_numbers(text))
    words = known_words()
    # Vowel signs of Indian scripts are no word characters, so words are what stands between spaces and punctuation.
    for word in re.split(r"[\s\d_,.;:!?\"'()\-،。，、；：]+", text.lower()):
        if word in words.numbers:
            found.add(words.numbers[word])
        for end in range(1, min(len(word), 16) + 1):
            # Chinese and Japanese write numbers inside words; elsewhere the whole word must be one.
            if (value := words.foreign_numbers.get(word[:end])) and (end == len(word) or _is_han(word[0])):
                found.add(value)
        found |= {words.foreign_numbers[c] for c in word if _is_han(c) and c in words.foreign_numbers}
    return found


def _joins(left: str, right: str) -> bool:
    return bool(left and right) and all(c.isalnum() and not _is_han(c) for c in (left, right))


def _is_han(char: str) -> bool:
    return "぀" <= char <= "鿿"


def _unhyphen(text: str) -> str:
    text = re.sub(r"n't\b", " not", text.replace("can't", "can not"), flags=re.IGNORECASE)
    text = re.sub(r"\b(\d)(girls?|boys?|others?)\b", r"\1 \2", text)
    text = re.sub(r"\b(\d{1,4}) (mm|cm|px|fps|k|bit)\b", r"\1\2", text)
    # "scarf-wearing penguins" are penguins wearing a scarf; without the hyphen it would be a scarf that wears.
    text = re.sub(r"\b(\w{2,20})-(\w{2,20}ing) (\w{2,20})\b", _doer_first, text)
    return re.sub(r"(?<=\w)[-‐‑](?=\w)", " ", text)


def _doer_first(found: re.Match[str]) -> str:
    """ "scarf-wearing penguins": "penguins wearing scarf", where the verb takes an object; praise goes ("eye-catching")."""
    what, doing, who = (w.lower() for w in found.groups())
    known = known_words()
    if doing in _PRAISING:
        return found[3]
    if any(w in table for w in (f"{what} {doing}", doing) for table in (known.scene, known.attributes, known.nouns)):
        return found[0]  # "award-winning"

    def alive(word: str) -> bool:
        return not known.sorts.get(noun(word), set()).isdisjoint({"person", "animal"})

    takes = any(base in known.transitive for base, form in known.verbs.get(doing, ()) if form == "ing")
    takes = takes or (alive(who) and what in known.nouns and not alive(what))  # "a fire-breathing dragon"
    return f"{found[3]} {found[2]} {found[1]}" if takes and what not in known.attributes else found[0]


_PRAISING = {
    "catching",
    "watering",
    "dropping",
    "raising",
    "warming",
    "melting",
    "pounding",
    "wrenching",
    "blowing",
    "bending",
}


def _numbers(text: str) -> list[int]:
    found = []
    for match in re.finditer(r"(?<![\w.:])\d{1,6}(?![\w:]|\.\d)|(?<=[぀-鿿가-힣])\d{1,6}|\d{1,6}(?=[぀-鿿가-힣])", text):
        found.append(int(match.group()))
    return list(dict.fromkeys(found))


def _codes(text: str) -> list[str]:
    """Words with letters and digits, which mean something only as they are: R2D2, mc2, 1980s; never 4k, 8k, 1girl."""
    found = re.findall(r"\b(?=\w*\d)(?=\w*[^\W\d_])[^\W_]{2,20}\b", text)
    known = known_words()
    keep = [
        w for w in found if not re.fullmatch(r"(?i)\d{1,4}(k|d|girls?|boys?|others?|bit|mm|x|p|px|fps|st|nd|rd|th)", w)
    ]
    return list(dict.fromkeys(w for w in keep if plain(w) not in known.scene and plain(w) not in known.attributes))


def _spoken(text: str) -> list[str]:
    """What a sign says without quotation marks: "reads COACH", "the word Dream"."""
    return [m.group(1).strip(" .!?") if not m.group(1).isupper() else m.group(1) for m in _SPOKEN.finditer(text)]


def _names(text: str, language: str) -> tuple[str, ...]:
    """Capitalised words inside sentences; none when most words are capitalised. German capitalises every noun."""
    words = [
        m for m in re.finditer(r"(?<!\d)[^\W\d_](?:\w|['’-](?=\w))*", text) if m.group() not in ("BREAK", "AND", "§")
    ]
    large = [w for w in words if w.group()[0].isupper()]
    if language == "german" or not large:
        return ()
    latin = sum(w.group().isascii() for w in words)
    if language == "english" or latin > 0.5 * len(words):
        small = [w for w in words if w.group()[0].islower()]
        if (len(large) > 0.6 * len(words) and len(words) > 3) or not small:
            return ()
    found = []
    for word in large:
        start = re.search(r"(?:^|[.!?\n§|]\s*)$", text[max(0, word.start() - 4) : word.start()]) is not None
        after = text[word.end() : word.end() + 2]
        named = not start or (after[:1] == " " and after[1:].isupper() and not _is_common(word.group()))
        if named and word.group() != "I" and not (language == "english" and _is_plain_word(word.group())):
            found.append(word.group().removesuffix("'s"))
    return tuple(dict.fromkeys(found))


def _is_plain_word(word: str) -> bool:
    """A capitalised word that names nobody: Art Deco, Japanese, HD; these are read as what they mean."""
    known = known_words()
    low = word.lower()
    if low in _TEXT_WORDS or low in known.languages:
        return True
    return any(low in table for table in (known.attributes, known.scene, known.numbers)) or _in_function(low)


def _is_common(word: str) -> bool:
    known = known_words()
    low = word.lower()
    return _in_function(low) or any(
        w in table for w in (low, singular(low)) for table in (known.nouns, known.attributes, known.scene, known.verbs)
    )


def _in_function(low: str) -> bool:
    return any(low in listed for listed in known_words().function.values())


def _language(text: str) -> str:
    """ "english" where the reading can be trusted, else the language or script that it looks like."""
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return "english"
    foreign = [c for c in letters if not unicodedata.name(c, "LATIN").startswith("LATIN")]
    if len(foreign) > 0.3 * len(letters):
        return unicodedata.name(foreign[0], "UNKNOWN").split()[0].lower()
    words = re.findall(r"[^\W\d_]+", text.lower())
    known = known_words()
    function = set().union(*known.function.values()) | set(known.relations)
    score = {
        language: sum(w in listed for w in words)
        for language, listed in known.languages.items()
    }  # fmt: skip
    best = max(score, key=lambda name: score[name])
    english = sum(w in function for w in words)
    understood = sum(w in function or _is_common(w) for w in words)
    marked = sum(any(c in _FOREIGN_MARKS for c in w) for w in words)
    if score[best] + marked > english and score[best] + marked > 0 and understood < 0.7 * len(words):
        return best if score[best] else "another language"
    if len(words) >= 4 and understood < 0.25 * len(words) and english < 2:
        return "another language"
    return "english"
