"""vCards in both shapes."""

from xml.etree.ElementTree import Element, fromstring

import pytest

from homeserver.protocol.vcards import photo_of, to_temp, to_vcard4, with_photo, without_photo
from homeserver.protocol.xml import serialise

FIELDS = (
    "<FN>Ann Example</FN>",
    "<N><FAMILY>Example</FAMILY><GIVEN>Ann</GIVEN></N>",
    "<NICKNAME>annie</NICKNAME>",
    "<BDAY>1990-01-02</BDAY>",
    "<ADR><HOME/><STREET>Way 1</STREET><LOCALITY>Town</LOCALITY><CTRY>Land</CTRY></ADR>",
    "<TEL><WORK/><CELL/><PREF/><NUMBER>+1 555</NUMBER></TEL>",
    "<EMAIL><HOME/><INTERNET/><USERID>ann@example.org</USERID></EMAIL>",
    "<TITLE>Dr</TITLE>",
    "<ROLE>Boss</ROLE>",
    "<ORG><ORGNAME>Org</ORGNAME><ORGUNIT>Unit</ORGUNIT></ORG>",
    "<URL>https://example.org</URL>",
    "<NOTE>hello &amp; bye</NOTE>",
)


def temp(*fields: str) -> Element:
    return fromstring("<vCard xmlns='vcard-temp'>" + "".join(fields) + "</vCard>")


def four(*fields: str) -> Element:
    return fromstring("<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'>" + "".join(fields) + "</vcard>")


@pytest.mark.parametrize("field", FIELDS)
def test_shared_fields_go_there_and_back(field: str) -> None:
    there = to_vcard4(temp(field), None)
    assert len(there) == 1
    back = to_temp(there, None)
    assert serialise(to_vcard4(back, None)) == serialise(there)
    assert "".join(back.itertext()) == "".join(temp(field).itertext())


def test_all_at_once_and_several_of_a_kind() -> None:
    fields = [*FIELDS, "<TEL><HOME/><NUMBER>2</NUMBER></TEL>"]
    back = to_temp(to_vcard4(temp(*fields), None), None)
    assert sorted(part.tag for part in back) == sorted(part.tag for part in temp(*fields))


def test_what_only_one_shape_has_survives() -> None:
    before = four("<fn><text>Old</text></fn>", "<gender><sex><text>F</text></sex></gender>", "<x-own>1</x-own>")
    made = to_vcard4(temp("<FN>New</FN>", "<GEO><LAT>1</LAT></GEO>"), before)
    assert [part.tag.rpartition("}")[2] for part in made] == ["fn", "gender", "x-own"]
    assert made[0][0].text == "New"
    back = to_temp(four("<fn><text>Newer</text></fn>"), temp("<FN>New</FN>", "<GEO><LAT>1</LAT></GEO>"))
    assert [part.tag.rpartition("}")[2] for part in back] == ["FN", "GEO"]


def test_a_vcard_that_says_the_same_stays_as_it_was() -> None:
    original = temp("<DESC>about me</DESC>", "<FN> Ann </FN>", "<TEL><MODEM/><NUMBER>1</NUMBER></TEL>")
    assert to_temp(to_vcard4(original, None), original) is original


def test_descriptions_are_notes() -> None:
    made = to_vcard4(temp("<DESC>about me</DESC>"), None)
    assert [part.tag.rpartition("}")[2] for part in made] == ["note"]
    back = to_temp(four("<note><text>else</text></note>"), temp("<DESC>about me</DESC>"))
    assert [(part.tag.rpartition("}")[2], part.text) for part in back] == [("NOTE", "else")]


def test_values_of_other_types_are_taken() -> None:
    back = to_temp(
        four("<tel><uri>tel:+1-555</uri></tel>", "<bday><text>spring</text></bday>", "<n><surname>S</surname></n>"),
        None,
    )
    assert [text.strip() for text in back.itertext() if text.strip()] == ["+1-555", "spring", "S"]


def test_empty_fields_are_left_out() -> None:
    assert len(to_vcard4(temp("<FN/>", "<N/>", "<TEL><NUMBER/></TEL>", "<ORG/>", "<ADR><HOME/></ADR>"), None)) == 0


def test_pictures_are_put_in_and_taken_out() -> None:
    made = with_photo(temp("<FN>A</FN>", "<PHOTO><BINVAL>eA==</BINVAL></PHOTO>"), "image/png", "eQ==")
    photo = photo_of(made)
    assert photo is not None
    assert [part.text for part in photo] == ["image/png", "eQ=="]
    assert len(made) == 2
    assert photo_of(without_photo(made)) is None
    linked = temp("<PHOTO><EXTVAL>https://example.org/a.png</EXTVAL></PHOTO>")
    assert len(without_photo(linked)) == 1
    assert photo_of(linked) is None
