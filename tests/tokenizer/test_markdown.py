"""Tables that read as plain text too."""

from lgsid_ray.tokenizer.markdown import table


def test_columns_stand_under_each_other_and_numbers_to_the_right() -> None:
    assert table(["code", "km"], [["`<a_1>`", "12.5"], ["`<a_10>`", "–"]]) == (
        "| code     |   km |\n"
        "| -------- | ---: |\n"
        "| `<a_1>`  | 12.5 |\n"
        "| `<a_10>` |    – |"
    )  # fmt: skip


def test_what_would_break_a_table_is_escaped() -> None:
    assert table(["city"], [["A|B\nC"]]).splitlines()[-1] == "| A\\|B C |"
