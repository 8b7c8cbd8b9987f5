"""Data forms and paging."""

import pytest

from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.document import parse_document
from homeserver.protocol.forms import Field, Form, InvalidForm, PageQuery
from homeserver.protocol.xml import Element, element, serialise
from homeserver.protocol.xml_input import XmlLimits


def read(xml: str) -> Element:
    return parse_document(xml.encode(), XmlLimits())


def test_parse() -> None:
    form = forms.parse(
        read(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>u</value></field>"
            "<field var='a'><value>1</value><value/></field><field><value>no name</value></field>"
            "<field var='empty'/><field var='a'><value>second</value></field></x>"
        )
    )
    assert form == Form("submit", {"FORM_TYPE": ["u"], "a": ["1", ""], "empty": []})
    assert (form.form_type, form.first("a"), form.first("empty", "x"), form.first("none")) == ("u", "1", "x", "")
    assert form.flag("a") is True
    assert form.flag("none", default=True) is True
    with pytest.raises(InvalidForm):
        form.flag("FORM_TYPE")


@pytest.mark.parametrize("xml", ["<x xmlns='other'/>", "<x xmlns='jabber:x:data' type='strange'/>"])
def test_no_forms(xml: str) -> None:
    with pytest.raises(InvalidForm):
        forms.parse(read(xml))


def test_build_and_read_back() -> None:
    made = forms.build(
        "form",
        "urn:f",
        [
            Field("name", ("x",), "text-single", "Name", is_required=True, description="Yours"),
            Field("role", ("a",), "list-single", options=(("a", "A"), ("b", ""))),
        ],
        title="T",
        instructions="I",
    )
    text = serialise(made, ns.DATA_FORM)
    assert text == (
        "<x type='form'><title>T</title><instructions>I</instructions>"
        "<field var='FORM_TYPE' type='hidden'><value>urn:f</value></field>"
        "<field var='name' type='text-single' label='Name'><desc>Yours</desc><required/><value>x</value></field>"
        "<field var='role' type='list-single'><value>a</value><option label='A'><value>a</value></option>"
        "<option><value>b</value></option></field></x>"
    )
    assert forms.parse(made).fields == {"FORM_TYPE": ["urn:f"], "name": ["x"], "role": ["a"]}


def test_find() -> None:
    parent = element("u", "p", {}, forms.build("submit", "one"), forms.build("submit", "two"))
    found = forms.find(parent, "two")
    assert found is not None
    assert found.form_type == "two"
    assert forms.find(parent, "three") is None
    assert forms.find(parent) is not None


@pytest.mark.parametrize(
    "inner, expected",
    [
        ("<max>10</max>", PageQuery(10)),
        ("<max>0</max><after>x</after>", PageQuery(0, None, "x")),
        ("<before/>", PageQuery(None, "")),
        ("<before>y</before><index>5</index>", PageQuery(None, "y", None, 5)),
        ("<after/>", PageQuery()),
    ],
)
def test_page_query(inner: str, expected: PageQuery) -> None:
    xml = f"<q xmlns='u'><set xmlns='http://jabber.org/protocol/rsm'>{inner}</set></q>"
    assert forms.page_query(read(xml)) == expected


def test_page_query_refused_or_absent() -> None:
    assert forms.page_query(read("<q xmlns='u'/>")) is None
    for bad in ("-1", "x", "99999999999", "\u0661"):
        with pytest.raises(InvalidForm):
            forms.page_query(read(f"<q xmlns='u'><set xmlns='{ns.RESULT_SET}'><max>{bad}</max></set></q>"))


def test_page_element() -> None:
    assert serialise(forms.page_element("a", "b", 9, 3), ns.RESULT_SET) == (
        "<set><first index='3'>a</first><last>b</last><count>9</count></set>"
    )
    assert serialise(forms.page_element(count=0), ns.RESULT_SET) == "<set><count>0</count></set>"
