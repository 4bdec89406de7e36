"""The icon world's words: what it can draw, and how people call it. Nothing but data, nothing imported.

Words marked *never* do not occur in the denoiser's training, only in the reward model's, which reads all alike.
"""

from __future__ import annotations

# canonical word -> (synonyms the denoiser has met now and then, synonyms it has never met)
OBJECT_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "car": (("automobile",), ("motorcar", "sedan")), "house": (("home",), ("cottage", "dwelling")),
    "tree": (("pine",), ("conifer", "spruce")), "fish": (("trout",), ("carp",)),
    "cat": (("kitten",), ("feline", "tomcat")), "bird": (("dove",), ("pigeon",)),
    "apple": (("fruit",), ("pippin",)), "key": (("latchkey",), ("passkey",)),
    "umbrella": (("parasol",), ("brolly",)), "boat": (("sailboat",), ("yacht", "dinghy")),
    "plane": (("airplane",), ("aircraft", "jet")), "star": (("starlet",), ("pentacle",)),
    "heart": (("valentine",), ("sweetheart",)), "moon": (("crescent",), ("luna",)),
    "cup": (("mug",), ("teacup", "beaker")), "bell": (("chime",), ("handbell",)),
}  # fmt: skip
COLOUR_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "red": (("scarlet",), ("crimson", "ruby")), "orange": (("tangerine",), ("apricot", "amber")),
    "yellow": (("golden",), ("lemon", "canary")), "green": (("emerald",), ("jade", "olive")),
    "blue": (("azure",), ("cobalt", "sapphire")), "purple": (("violet",), ("lilac", "plum")),
    "pink": (("rose",), ("fuchsia", "magenta")), "brown": (("chestnut",), ("umber", "chocolate")),
}  # fmt: skip
BACKGROUND_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "white": (("snowy",), ("ivory",)), "black": (("dark",), ("ebony",)), "gray": (("grey",), ("slate",)),
    "navy": (("midnight",), ("indigo",)), "mint": (("minty",), ("seafoam",)), "beige": (("sandy",), ("cream", "tan")),
}  # fmt: skip
COUNT_WORDS: dict[int, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    1: (("a", "one", "1"), ("a single",), ("a lone", "just one")),
    2: (("two", "2"), ("a pair of",), ("a couple of", "twin")),
    3: (("three", "3"), ("a trio of",), ("a triplet of", "a threesome of")),
}
RELATION_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "left of": (("left of",), ("to the left of",), ("on the left side of", "leftward of")),
    "right of": (("right of",), ("to the right of",), ("on the right side of", "rightward of")),
    "above": (("above",), ("over",), ("higher than", "atop")),
    "below": (("below",), ("under",), ("beneath", "underneath")),
}
_UNCHANGED_PLURALS = {"fish", "trout", "carp", "aircraft"}


def plural(noun: str) -> str:
    """The plural of an object word of this world."""
    if noun in _UNCHANGED_PLURALS:
        return noun
    return noun.removesuffix("y") + "ies" if noun.endswith("hy") else noun + "s"
