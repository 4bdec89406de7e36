"""The guard lets through what keeps the meaning, stops what changes it, and says "unsure" where it can't read."""

import json
import random
import time

import numpy as np
import pytest
from promptprobe.agents.guard import compare, fact_check_request, lost, read_fact_check, settle, unsure
from promptprobe.agents.offline import OfflineRewriter
from promptprobe.agents.rewrites import RewriteRequest, Try

from promptprobe.facts import Fact, Facts, facts_of
from promptprobe.facts_check import check
from promptprobe.facts_compare import Verdict
from promptprobe.icons.captions import COLOUR_WORDS, OBJECT_WORDS, plural, user_prompt
from promptprobe.icons.scenes import random_scene
from promptprobe.worlds import thesaurus_of

SAME = {
    "the sky": [
        ("the sun sets over two mountains", "a sunset over two mountains"),
        ("a red barn, the rising sun behind it", "a red barn at sunrise"),
        ("snow falls on a village", "snowfall on a village"),
    ],
    "ratios": [("a 16:9 banner of a cat", "a wide banner of a cat"), ("a cat, 3:2 aspect ratio", "a cat")],
    "word forms": [
        ("a boy kicks a ball", "a boy kicking a ball"),
        ("the owl sat on a post", "an owl sits on a post"),
        ("a woman who is carrying a lamp", "a woman carries a lamp"),
        ("a broken chair", "a chair that is broken"),
    ],
    "synonyms": [
        ("two kids on a couch", "two children on a sofa"),
        ("a scarlet bicycle", "a red bike"),
        ("a huge truck", "a large lorry"),
    ],
    "compounds": [
        ("a snowman in front of a tree house", "a treehouse behind a snowman"),
        ("a rabbit with a bow tie", "a rabbit wearing a bowtie"),
        ("a parking meter and a blue sleeping bag", "a blue sleeping bag next to a parking meter"),
    ],
    "second mentions": [
        ("a jar on a stool", "A jar and a stool. The jar is on the stool."),
        ("a nun with an umbrella", "a nun; she holds an umbrella"),
        ("a lamp above a desk", "a desk with a lamp above it"),
        ("a fork left of a plate", "a fork on the left and a plate on the right"),
    ],
    "bound attributes": [
        ("a leaf in the shape of a star", "a star-shaped leaf"),
        ("a spoon made of wood", "a wooden spoon"),
        ("a blue-eyed cat", "a cat with blue eyes"),
        ("a man in a red coat", "a man wearing a coat that is red"),
    ],
    "markup": [
        ("(green frog:1.3), pond BREAK rain", "a green frog in a pond, rain"),
        ("1girl, black hair, ((gold crown)), masterpiece", "a girl with black hair and a gold crown"),
    ],
    "additions of light and style": [
        ("a goat on a hill", "a goat on a hill, golden hour, soft light, misty mood"),
        ("a teapot", "a photo of a teapot, highly detailed, 8k"),
    ],
    "negation": [
        ("a room without chairs", "a room with no chairs"),
        ("a street with no cars", "a street"),
    ],
    "passive": [("a dog chasing a postman", "a postman chased by a dog")],
    "subjects behind other nouns": [
        ("a boxer with red gloves punching a boxer with blue gloves", "a boxer in red gloves punches another boxer in blue gloves"),
        ("a model in a long yellow dress and white sneakers walking", "a walking model wearing a long yellow dress and white sneakers"),
        ("two gulls watch a sailor from a rail", "two gulls on a rail watch a sailor"),
        ("a cat and a dog arguing at a gate", "at a gate a cat and a dog argue"),
    ],
    "inversions": [
        ("a kitchen with pots hanging above the stove", "a kitchen; over the stove there are hanging pots"),
        ("a bear and two cubs walking on ice", "on ice walk a bear and two cubs"),
        ("a market, a boy selling plums", "a market where a boy sells plums"),
        ("a boy flying a kite", "a kite that a boy flies"),
        ("a dancer, a guitarist behind her", "a dancer, behind her a guitarist"),
        ("a dancer balancing on one leg with her arms up", "balancing on one leg, arms up, a dancer"),
    ],
    "compounds taken apart": [
        ("a castle with four towers", "a four-towered castle"), ("a cake with three tiers", "a three-tier cake"),
        ("a scarecrow in a cornfield", "a scarecrow in a field of corn"), ("hands holding a cup of tea", "hands holding a teacup"),
        ("a raygun-wielding woman", "a woman wielding a raygun"), ("a fire-breathing dragon", "a dragon breathing fire"),
        ("a mouth-watering burger", "a delicious burger"), ("a bear with a missing eye", "a bear, one eye is missing"),
        ("mountain range behind a hut", "mountains behind a hut"), ("a bottle in sand", "a bottle of green glass in sand"),
    ],
    "cameras": [("a man feeding pigeons, 50mm", "a man feeding pigeons, 85 mm lens, f/1.8, ISO 400"), ("a fox", "a fox, 35 mm")],
    "going and handling": [
        ("a bus crossing a bridge", "a bridge with a bus driving over it"), ("a cook holding an eel", "a cook lifts an eel"),
        ("a keeper diving to catch a ball", "a keeper dives for a ball"), ("a diver taking a photo of a squid", "a diver photographs a squid"),
    ],
    "depictions": [("logo of a fox head, flat, orange and white", "flat logo, a fox head in orange and white")],
    "pairs of people": [("a couple dancing, the woman laughing", "a laughing woman and a man, a couple, dancing")],
}  # fmt: skip
CHANGED = {
    "the sky": [("the sun sets over two mountains", "sunrise over two mountains")],
    "objects": [("a lamp and a rug", "a lamp"), ("a lemon next to a knife", "a lemon next to a fork")],
    "added objects": [("a lamp", "a lamp and a cat"), ("a llama next to a stove", "a llama next to a stove with a hat")],
    "counts": [("three owls", "four owls"), ("three owls", "owls"), ("a pair of owls", "an owl")],
    "colours": [("a teal door and a pink gate", "a pink door and a teal gate"), ("a teal door", "a door")],
    "materials": [("a paper boat and a metal plane", "a metal boat and a paper plane")],
    "shapes": [("an oval mirror", "a square mirror"), ("a heart-shaped box", "a star-shaped box")],
    "sizes": [("a tiny chair and a huge table", "a huge chair and a tiny table")],
    "same heads": [("a red cube on top of a blue cube", "a blue cube on top of a red cube")],
    "places": [
        ("a fox behind a barrel", "a fox in front of a barrel"),
        ("a fox left of a barrel", "a fox right of a barrel"),
        ("a fox under a table", "a fox on a table"),
        ("a fox behind a barrel", "a fox and a barrel"),
    ],
    "roles": [("a nurse hugging a robot", "a robot hugging a nurse"), ("a fox eating a plum", "a fox throwing a plum")],
    "twins": [
        ("a boxer with red gloves punching a boxer with blue gloves", "a boxer with blue gloves punching a boxer with red gloves"),
        ("a face with one red eye", "a face with two red eyes"),
    ],
    "weather": [("a goalkeeper in the rain", "a goalkeeper in the snow"), ("sunlight on an altar", "rain on an altar")],
    "half": [("a green bottle half buried in sand", "a blue bottle half buried in sand")],
    "outside": [("two cleaners on ropes outside a tower", "two cleaners on ladders outside a tower")],
    "around": [("three gnomes around a fountain", "three gnomes on top of a fountain")],
    "owners": [("a fox with a hat and a bear with a scarf", "a fox with a scarf and a bear with a hat")],
    "negation": [("a room without chairs", "a room with chairs"), ("a man not wearing a hat", "a man wearing a hat")],
    "things named like colours": [("an orange and a cup", "a cup"), ("a rose in a vase", "a vase")],
    "style": [("an owl, oil painting", "an owl, photograph"), ("an owl at night", "an owl at noon")],
    "names": [("a cafe in Lisbon", "a cafe in Naples"), ("a fox, art by Ana Duarte", "a fox")],
    "text": [
        ('a sign saying "Open Now"', 'a sign saying "Open"'),
        ("a sign saying 'Open'", "a sign saying 'OPEN'"),
        ("a mug that reads HELLO", "a mug that reads HALLO"),
        ("a mug", 'a mug that says "SALE"'),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("original", "rewrite"), [pair for pairs in SAME.values() for pair in pairs])
def test_what_keeps_the_meaning_may_compete(original, rewrite):
    assert lost(original, rewrite) == []


@pytest.mark.parametrize(("original", "rewrite"), [pair for pairs in CHANGED.values() for pair in pairs])
def test_what_changes_the_meaning_is_lost(original, rewrite):
    assert lost(original, rewrite)


@pytest.mark.parametrize(
    ("original", "rewrite", "reason"),
    [
        ("a fox behind a barrel", "a barrel behind a fox", "fox behind barrel"),
        ("two red cars", "three red cars", "count 2 of car"),
        (
            "a wooden spoon and a glass bowl",
            "a glass spoon and a wooden bowl",
            "material wood of spoon (it went to bowl)",
        ),
        ("a nurse hugging a robot", "a robot hugging a nurse", "nurse hug robot (the roles are swapped)"),
        ("a llama next to a stove", "a llama next to a stove and a chair", "added chair"),
    ],
)
def test_a_loss_is_told_in_words(original, rewrite, reason):
    assert reason in lost(original, rewrite)


def test_doubt_is_neither_loss_nor_nothing():
    for original, rewrite in (
        ("a fluffy cat", "a cat"),
        ("a dog on a rug", "a poodle on a rug"),
        ("a fox, <lora:ink:0.7>", "a fox"),
        ("a street with no cars", "a street"),
    ):
        assert not lost(original, rewrite) and unsure(original, rewrite)
        assert compare(original, rewrite).verdict == "unsure"
    assert compare("a cat on a mat", "a cat on a mat").verdict == "kept"


@pytest.mark.parametrize(
    ("original", "good", "bad"),
    [
        ('两只猫，牌子上写着"茶"', '牌子上写着"茶"，两只猫', '两只猫，牌子上写着"酒"'),
        ("三只狗在山上", "山上有3只狗", "五只狗在山上"),
        ("猫が二匹、「寿司」の看板", "「寿司」の看板と猫が二匹", "猫が二匹、「蕎麦」の看板"),
        ("강아지 4마리가 공원에 있다", "공원에 강아지 네 마리", "강아지 6마리가 공원에 있다"),
        ("मेज़ पर 5 सेब", "पाँच सेब मेज़ पर", "मेज़ पर 7 सेब"),
        ('لافتة مكتوب عليها "شاي"', 'على اللافتة "شاي"', 'لافتة مكتوب عليها "قهوة"'),
        (
            "vier blaue Stühle vor einem Haus",
            "vor einem Haus stehen vier blaue Stühle",
            "sechs blaue Stühle vor einem Haus",
        ),
        ("un gato en Toledo con una taza", "una taza y un gato, en Toledo", "un gato en Burgos con una taza"),
    ],
)
def test_of_other_languages_texts_numbers_and_names_are_checked_and_the_rest_is_unsure(original, good, bad):
    assert compare(original, good).verdict == "unsure"
    assert compare(original, bad).verdict == "lost"


def test_other_languages_never_lose_what_can_not_be_read():
    assert not lost("一只红色的猫坐在木桌上", "木桌上坐着一只红色的猫")
    assert not lost("eine Katze auf einem Tisch", "auf dem Tisch sitzt eine Katze")
    assert not lost("кошка на столе", "на столе сидит кошка")


def test_facts_can_be_shown_stored_edited_and_checked_one_by_one():
    facts = facts_of('two red cars behind a wooden gate, a sign says "STOP", no people')
    texts = facts.texts()
    for expected in ('text "STOP"', "2 car", "red car", "wood gate", "car behind gate", "no person"):
        assert expected in texts
    assert Facts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts
    red = next(f for f in facts if f.text == "red car")
    assert check(red, "two red cars").verdict == "kept"
    assert check(red, "two blue cars").verdict == "lost"
    assert Fact.from_dict({"kind": "text", "text": "GO"}).value == "GO"


def test_a_fact_that_the_person_struck_out_may_go():
    facts = facts_of("a red car next to a goat")
    kept = Facts(facts.prompt, tuple(f for f in facts if f.text != "red car"), facts.language)
    assert lost("a red car next to a goat", "a car next to a goat")
    assert not compare("a red car next to a goat", "a car next to a goat", kept).lost


def test_a_world_may_bring_its_own_synonyms():
    own = {"pippin": "apple", "pippins": "apple", "zaffre": "blue"}
    assert compare("two zaffre pippins", "two blue apples", thesaurus=own).verdict == "kept"
    assert lost("two zaffre pippins", "two red apples", own)
    assert lost("two zaffre pippins", "three blue apples", own)


def test_the_offline_rewriters_rewrites_all_pass():
    rng = np.random.default_rng(11)
    own = {
        w: name
        for table in (OBJECT_WORDS, COLOUR_WORDS)
        for name, group in table.items()
        for w in (name, *group[0], *group[1])
    }
    own |= {plural(w): name for name, group in OBJECT_WORDS.items() for w in (name, *group[0], *group[1])}
    for _ in range(60):
        prompt = user_prompt(random_scene(rng), rng)
        answer = OfflineRewriter(thesaurus_of("icons")).rewrite(
            RewriteRequest(prompt, 0.0, 1.0, [], [Try(prompt, 0.0)], 4, 77)
        )
        for rewrite in answer.rewrites:
            assert lost(prompt, rewrite.prompt) == [], prompt
            assert lost(prompt, rewrite.prompt, own) == [], prompt


@pytest.mark.parametrize(
    "text",
    [
        "a red cat with ",
        "cat ",
        "(",
        '"',
        "'a ",
        "of ",
        "1 ",
        "a, ",
        "not ",
        "a sign that says OPEN ",
        "<lora:",
        "猫",
        "\u0301",
        "a.b ",
    ],
)
def test_long_input_is_read_in_linear_time(text):
    long = text * (100_000 // len(text))
    began = time.process_time()
    compare(long, long + " and a dog")
    compare("a dog", long)
    assert time.process_time() - began < 2


def test_no_text_makes_it_raise():
    rng = random.Random(4)
    words = [w for pairs in SAME.values() for pair in pairs for text in pair for w in text.split()]
    words += [
        "with",
        "of",
        "no",
        "one",
        "them",
        "whose",
        "'s",
        "made of",
        "shaped like",
        ":1.2)",
        '"',
        "by",
        "not",
        "dozen",
        "-",
    ]
    for _ in range(400):
        some = [" ".join(rng.choice(words) for _ in range(rng.randrange(30))) for _ in range(2)]
        odd = "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(60)))
        for original, rewrite in ((some[0], some[1]), (odd, some[0]), (some[1], odd)):
            compare(original, rewrite)
            facts_of(original).to_dict()


def test_the_request_holds_every_fact_and_every_rewrite():
    facts = facts_of("two red cars behind a gate")
    system, user = fact_check_request(facts, ["a gate", "two cars"])
    said = json.loads(user["content"])
    assert system["role"] == "system" and "JSON" in system["content"]
    assert [f["fact"] for f in said["facts"]] == facts.texts()
    assert [r["text"] for r in said["rewrites"]] == ["a gate", "two cars"]


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ('{"checks": [{"rewrite": 1, "lost": [1], "unsure": [], "added": []}, {"rewrite": 2, "lost": [], "unsure": [], "added": []}]}', ["lost", "kept"]),
        ('<think>{"checks": [{"rewrite": 1, "lost": [1]}]}</think>```json\n{"checks": [{"rewrite": 2, "added": ["cat"]}]}\n```', [None, "lost"]),
        ('[{"rewrite": "2", "unsure": ["3"], "lost": []}]', [None, "unsure"]),
        ('Sure! {"results": [{"lost": []}, {"verdict": "lost"}]}', ["kept", "lost"]),
        ("1: kept\n2: lost 1, 3", ["kept", "lost"]),
        ('{"checks": [{"rewrite": 7, "lost": [1]}, {"rewrite": true}, 5, null]}', [None, None]),
        ('{"checks": [{"rewrite": 1, "lost": [99, -1, {}], "added": "none"}]}', ["kept", None]),
        ("", [None, None]),
        ("[" * 100_000, [None, None]),
        ('{"checks": ' * 30_000, [None, None]),
    ],
)  # fmt: skip
def test_any_answer_is_read(answer, verdicts):
    began = time.process_time()
    found = read_fact_check(answer, facts_of("two red cars behind a gate"), 2)
    assert [v and v.verdict for v in found] == verdicts
    assert time.process_time() - began < 2


def test_what_code_is_sure_of_overrules_the_llm():
    surely, doubt, fine = Verdict("lost", ("object car",)), Verdict("unsure", (), ("fluffy",)), Verdict("kept")
    assert settle(surely, fine).verdict == "lost"
    assert settle(doubt, fine).verdict == "kept" and settle(doubt, surely).verdict == "lost"
    assert settle(fine, surely).verdict == "unsure" and settle(fine, None).verdict == "kept"
