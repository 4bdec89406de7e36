"""English words for taking a prompt apart: what names nothing one could see, numbers, colours, where things lie."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    """
    a an the of on in at to by for with from and or but nor as is are was were be been it its this that these
    those there here into onto over under up down out off near next beside between behind while where which who
    whose not no please would could should like see want me my i you your we our some any very just so such
    """
)
# Words around a description that name nothing in the picture.
FILLER = _words(
    """
    picture image photo photograph illustration painting drawing poster wallpaper render scene art artwork draw
    paint show showing shows imagine create generate make made give beautiful lovely nice pretty gorgeous stunning
    amazing little very really highly extremely detailed quality best masterpiece trending artstation hd uhd 4k 8k
    sharp crisp edges simple clean minimalist minimal calm flat style nothing else frame them it each total
    background backdrop
    """
)
# Words at which a noun phrase ends.
BOUNDARY = FUNCTION_WORDS | _words(
    """
    then also says say reads rides holds wears sits stands carries has have looks walks runs plays eats made her
    his their
    """
)
ING_NOUNS = _words(
    """
    building ring king wing spring string ceiling evening morning clothing lightning earring wedding thing sling
    swing sibling duckling pudding dwelling railing
    """
)
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12,
}  # fmt: skip
COLOURS = _words(
    """
    red yellow green blue purple pink brown white black gray grey navy beige silver teal turquoise cyan crimson
    scarlet golden azure cobalt fuchsia magenta maroon indigo ivory ebony umber lilac violet
    """
)
# Colours that are things as well: "a lemon car", but "a lemon".
THING_COLOURS = _words(
    """
    orange mint tangerine apricot amber lemon canary emerald jade olive sapphire ruby plum rose chestnut chocolate
    slate midnight seafoam cream tan lavender
    """
)
# Other ways to say a number or a relation, and what they mean.
SPELLINGS = {
    "a single": 1, "a lone": 1, "just one": 1, "a pair of": 2, "a couple of": 2, "twin": 2, "a trio of": 3,
    "a triplet of": 3, "a threesome of": 3, "a dozen": 12,
    "left of": "left", "to the left of": "left", "on the left side of": "left", "leftward of": "left",
    "right of": "right", "to the right of": "right", "on the right side of": "right", "rightward of": "right",
    "above": "above", "over": "above", "higher than": "above", "atop": "above", "on top of": "above",
    "below": "below", "under": "below", "beneath": "below", "underneath": "below",
}  # fmt: skip
