"""JSONPath templates, as the manual of kubectl shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.cli.document import Rendering, read_rendering, render
from volant.cli.jsonpath import read_path, render_jsonpath
from volant.core.errors import InvalidInput

LIST = {
    "items": [
        {
            "name": "web",
            "cpu_cores": 2,
            "labels": {"app.io/tier": "front"},
            "status": {"ready": True, "ips": ["10.0.0.2", "10.0.0.3"]},
        },
        {"name": "db", "cpu_cores": 4, "labels": {}, "status": {"ready": False, "ips": []}},
        {"name": "cache", "cpu_cores": 1, "labels": {}, "status": {"ready": True, "ips": ["10.0.0.4"]}},
    ]
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{.items[*].name}", "web db cache"),
        (".items[0].name", "web"),
        ("{.items[-1].name}", "cache"),
        ("{.items[0:2].name}", "web db"),
        ("{.items[1:].name}", "db cache"),
        ("{.items[0,2].name}", "web cache"),
        ("{$.items[0]['name']}", "web"),
        ("{.items[0].labels['app.io/tier']}", "front"),
        ("{..ips[0]}", "10.0.0.2 10.0.0.4"),
        ("{.items[?(@.cpu_cores>1)].name}", "web db"),
        ('{.items[?(@.name=="db")].cpu_cores}', "4"),
        ("{.items[?(@.name!='db')].name}", "web cache"),
        ("{.items[?(@.status.ready==true)].name}", "web cache"),
        ("{.items[?(@.labels['app.io/tier'])].name}", "web"),
        ("{.items[0].status}", '{"ready":true,"ips":["10.0.0.2","10.0.0.3"]}'),
        ("{.items[0].status.ready}", "true"),
        ("{.nothing.there}", ""),
        ("{.items[9].name}", ""),
        ("{.items[?(@.name>3)].name}", ""),
        ('{range .items[*]}{.name}{"\\t"}{.cpu_cores}{"\\n"}{end}', "web\t2\ndb\t4\ncache\t1\n"),
        ("{range .items[*]}{.name}:{range .status.ips[*]} {@}{end};{end}", "web: 10.0.0.2 10.0.0.3;db:;cache: 10.0.0.4;"),
        ("first is {.items[0].name}, '}' stays", "first is web, '}' stays"),
        ('{"}"}', "}"),
    ],
)
def test_a_template_is_filled_in(template: str, expected: str) -> None:
    assert render_jsonpath(template, LIST) == expected


@pytest.mark.parametrize(
    "template", ["{.items[}", "{.a b}", "{range .items[*]}", "{end}", "{.items", '{"open}', "{.items[?(x)]}"]
)
def test_what_cannot_be_read_says_so(template: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        render_jsonpath(template, LIST)
    assert caught.value.field == "output"
    assert caught.value.hint


@given(st.text(alphabet="{}[].*@?()='\"\\ab0,:-$<>! ", max_size=40))
def test_whatever_the_template_it_is_read_or_refused(template: str) -> None:
    try:
        render_jsonpath(template, LIST)
    except InvalidInput as error:
        assert error.field == "output"


def test_a_path_needs_no_first_dot() -> None:
    assert read_path("items[0].name").find(LIST) == read_path(".items[0].name").find(LIST) == ["web"]


def test_columns_of_ones_own() -> None:
    rendering = read_rendering("custom-columns=NAME:.name,IPS:.status.ips[*],TWO:{.status.ips[0,1]}")
    assert rendering is not None
    assert render(LIST, rendering).split("\n") == [
        "NAME   IPS                TWO",
        "web    10.0.0.2,10.0.0.3  10.0.0.2,10.0.0.3",
        "db     <none>             <none>",
        "cache  10.0.0.4           10.0.0.4",
    ]
    assert render(LIST["items"][1], rendering, headers=False) == "db  <none>  <none>"


def test_yaml_keeps_the_order_and_the_words() -> None:
    assert (
        render({"name": "wéb", "on": "yes", "list": [1, None]}, Rendering("yaml")) == "name: wéb\n'on': 'yes'\nlist:\n- 1\n- null"
    )


@pytest.mark.parametrize("text", ["jsonpath=", "custom-columns=", "custom-columns=NAME", "custom-columns=:.a", "jsonpath={.a"])
def test_a_rendering_that_cannot_be_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_rendering(text)


@pytest.mark.parametrize("text", ["table", "wide", "json=1", "xml", ""])
def test_what_is_no_document_is_none_of_these(text: str) -> None:
    assert read_rendering(text) is None
