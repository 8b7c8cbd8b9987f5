from config.lines import key_lines

TEXT = '''# first
domains = ["a]", "b"] # [no]
text = """
fake = 1
[fake]
"""
list = [
  "x = 1", # ]
  { inner = 2 },
]
[tls] # a table
'min imum' = '[x]'
[[tls.certificate]]
key = 1
[[tls.certificate]]
key = 2
[tls.certificate.deep]
a.b . "c d" = 3
 [ other ]
last = 1'''


def test_each_key_has_the_line_where_it_begins() -> None:
    lines = key_lines(TEXT)
    assert lines == {
        ("domains",): 2,
        ("text",): 3,
        ("list",): 7,
        ("tls",): 11,
        ("tls", "min imum"): 12,
        ("tls", "certificate"): 13,
        ("tls", "certificate", 0): 13,
        ("tls", "certificate", 0, "key"): 14,
        ("tls", "certificate", 1): 15,
        ("tls", "certificate", 1, "key"): 16,
        ("tls", "certificate", 1, "deep"): 17,
        ("tls", "certificate", 1, "deep", "a"): 18,
        ("tls", "certificate", 1, "deep", "a", "b"): 18,
        ("tls", "certificate", 1, "deep", "a", "b", "c d"): 18,
        ("other",): 19,
        ("other", "last"): 20,
    }


def test_windows_line_ends_and_an_empty_file() -> None:
    assert key_lines("") == {}
    assert key_lines("a = 1\r\n[t]\r\nb = '''x\r\ny'''\r\nc = 1\r\n") == {
        ("a",): 1,
        ("t",): 2,
        ("t", "b"): 3,
        ("t", "c"): 5,
    }
