"""Answers that stall, crash or take over graders.

Each is (name, gold, answer); none equals its gold unless its name starts with "same".
"""


def _tower(height: int, base: str = "9") -> str:
    return base + "".join("^{" + base for _ in range(height)) + "}" * height


def strings() -> list[tuple[str, str, str]]:
    n = 10**6
    out: list[tuple[str, str, str]] = []

    def add(name: str, answer: str, gold: str = "42") -> None:
        out.append((name, gold, answer))

    # powers
    for h in (2, 3, 4, 8, 20, 50):
        add(f"tower {h}", _tower(h))
        add(f"tower of e {h}", "\\sin(" + _tower(h, "e") + ")")
    for text in (
        "7^{10000000}",
        "10^{1000000000}",
        "9**9**9**9",
        "2^{2^{40}}",
        "(10^{10^{10}})!",
        "2^{10^{10}}-2^{10^{10}}+5",
        "1.0000001^{10^{12}}",
        "(1+10^{-9})^{10^{18}}",
        "\\pi^{\\pi^{\\pi^{\\pi}}}",
        "x^{10^{9}}",
        "(x+y)^{100000}",
        "(x+1)^{10^{30}}",
        "i^{i^{i^{i^{9999999}}}}",
        "0.5^{-10^{9}}",
        "1e999999",
        "1e-999999",
        "9e9999999999",
        "2^{-2^{50}}",
        "(-8)^{1/3^{99}}",
    ):
        add(f"power {text}", text)
    add("power beside power", "7^{10000001}", "7^{10000000}")
    add("same power", "7^{10000000}", "7^{10000000}")
    add("power of polynomial", "(a+b+c+d+f)^{400}+1", "(a+b+c+d+f)^{400}")
    add("exponent of variables", "x^{y^{z^{w^{v}}}}+1", "x^{y^{z^{w^{v}}}}")
    # factorials and binomials
    for text in (
        "100000000!",
        "1000000!",
        "((9!)!)!",
        "9!!!!!!!!",
        "\\frac{10^8!}{99999999!}",
        "\\binom{1000000}{500000}",
        "\\binom{10^{30}}{10^{29}}",
        "\\Gamma(10^9)",
        "\\Gamma(10^{30}+\\frac{1}{2})",
        "\\Gamma(\\Gamma(\\Gamma(9)))",
        "\\zeta(1000000000)",
        "\\zeta(2998)",
        "(10^{10})!-(10^{10})!+42",
        "\\prod_{k=1}^{1000000000}k",
        "\\gcd(10^{5000}!, 7)",
        "n!^{n!^{n!}}",
        "\\lfloor 10^{10^{10}} \\rfloor",
    ):
        add(f"factorial {text}", text)
    add("factorials of n", "(n+1)!/n!", "n+2")
    # calculus
    for text in (
        "\\sum_{k=1}^{1000000000}\\sin(k^2)",
        "\\sum_{k=1}^{\\infty}\\frac{1}{k^{1.0001}}",
        "\\sum_{a=1}^{999}\\sum_{b=1}^{999}\\sum_{c=1}^{999}abc",
        "\\int_0^1\\int_0^1 e^{xy} dx dy",
        "\\int_0^1 x^x dx",
        "\\int_{-\\infty}^{\\infty} e^{-x^4+x^3} dx",
        "\\lim_{x\\to0}\\frac{\\sin(x^{x^x})}{x}",
        "\\int \\sqrt{\\tan x} dx",
        "\\int_0^{10^9} \\sin(x^2) dx",
        "\\lim_{n\\to\\infty}(1+1/n)^{n^{n}}",
        "\\sum_{n=0}^{1999}\\sum_{m=0}^{1999}\\frac{1}{n+m+1}",
        "\\prod_{n=1}^{\\infty}(1-2^{-n})",
        "\\int_0^1 \\frac{\\ln(1+x)\\ln(1-x)\\ln x}{1+x^2} dx",
        "\\int_0^1 \\sin(\\cos(\\tan(e^x))) dx",
        "\\lim_{x\\to\\infty}\\frac{e^{e^{x}}}{e^{e^{x+e^{-x}}}}",
        "\\sum_{k=1}^{2000} k^{2000}",
    ):
        add(f"calculus {text}", text)
    # depth
    for d in (30, 60, 200, 5000):
        add(f"brackets {d}", "(" * d + "1" + ")" * d)
        add(f"fractions {d}", "\\frac{1}{1+" * d + "2" + "}" * d)
        add(f"roots {d}", "\\sqrt{2+" * d + "2" + "}" * d)
        add(f"scripts {d}", "x" + "_{x" * d + "}" * d)
        add(f"sines {d}", "\\sin(" * d + "x" + ")" * d, "x")
    add("braces only", "{" * 3000 + "}" * 3000)
    add("unclosed brackets", "(" * 3000)
    add("texts in texts", "\\text{" * 50 + "x" + "}" * 50)
    add("minus signs", "-" * 3000 + "1")
    add("bars", "|" * 1001)
    add("primes", "x" + "'" * 2000)
    add("degrees", "1" + "^\\circ" * 500)
    add("bangs", "3" + "!" * 500)
    # size
    add("a million digits", "7" * n)
    add("many digits beside", "7" * 3900 + "1", "7" * 3900)
    add("long decimal", "0." + "3" * 3000, "1/3")
    add("long list", ",".join(map(str, range(3000))))
    add("long sum", "+".join(["x"] * 1400), "1399x")
    add("long product", "".join(f"(x-{k})" for k in range(180)), "x^{180}")
    add(
        "long set",
        "\\{" + ",".join(f"\\sqrt{{{k}}}" for k in range(300)) + "\\}",
        "\\{" + ",".join(f"\\sqrt{{{k}}}" for k in range(400, 700)) + "\\}",
    )
    add(
        "long set of near misses",
        "\\{" + ",".join(f"\\sin({k}x)" for k in range(150)) + "\\}",
        "\\{" + ",".join(f"\\sin({k}x+1)" for k in range(150)) + "\\}",
    )
    add("tuple of 400", "(" + ",".join(["1"] * 400) + ")", "(" + ",".join(["1"] * 399) + ",2)")
    add(
        "matrix of 400",
        "\\begin{pmatrix}"
        + "\\\\".join("&".join("12345678901234567890") for _ in range(20))
        + "\\end{pmatrix}",
    )
    add("signs", "\\pm 1\\pm 2\\pm 3\\pm 4\\pm 5\\pm 6\\pm 7\\pm 8\\pm 9\\pm 10\\pm 11")
    add("list of signs", ", ".join(f"\\pm {k}\\pm\\sqrt{{{k}}}" for k in range(100)))
    add("unions", "\\cup".join(f"({k},{k + 1})" for k in range(200)), "(0,200)")
    add("absolute values", "|x-1|+|x-2|+|x-3|+|x-4|+|x-5|+|x-6|<7", "x>0")
    add("high degree", "x^{23}-x^{22}+x-\\sqrt2>0", "x>1")
    add("brackets outward", "[" + "," * 15_000 + "[")
    add("brackets outward and more", "]" + "1,[;" * 900 + "x[")
    add("plus signs to a constant", "+ " * 1_500 + "const")
    add("lengths", "3 feet " * 400 + "6 inches")
    add("dollars", "$" * 5000)
    add("same spaces", " " * n + "1", "1 ")
    add("digits of groups", "1" + ",000" * 900)
    add("scripts side by side", "x_1" * 600)
    add("backslashes", "\\" * 5001)
    add("letters", "abcdefgh" * 400)
    # simplification
    for text in (
        "\\sin^{40}x+\\cos^{40}x-\\tan^{40}x",
        "\\sqrt{" + "+".join(f"\\sqrt{{{p}}}" for p in (2, 3, 5, 7, 11, 13, 17, 19)) + "}",
        "\\frac{1}{\\sqrt2+\\sqrt[3]{3}+\\sqrt[5]{5}+\\sqrt[7]{7}}",
        "\\arctan(\\arctan(\\arctan(\\arctan x)))",
        "\\log_{x}(\\log_{y}(\\log_{z}(w)))",
        "|||x|-1|-1|",
        "\\lfloor\\lfloor x^2\\rfloor^2\\rfloor",
        "\\sqrt[1000]{x^{999}}",
        "x^{x^{x^{x}}}",
        "(-1)^{\\pi^{e}}",
        "\\ln(\\ln(\\ln(\\ln(\\ln(2)))))",
        "\\frac{\\sin(10^{50})}{\\cos(10^{50})}",
        "\\sinh(\\sinh(\\sinh(9)))",
        "\\tan(\\frac{\\pi}{2})",
        "\\frac{1}{0}",
        "0^0",
        "\\frac{0}{0}",
        "\\log 0",
        "\\infty-\\infty",
        "\\sqrt{-1}^{\\infty}",
        "\\max(\\min(\\max(x,y),z),w)",
    ):
        add(f"simplify {text[:40]}", text, "\\sin(x)+\\sqrt{2}")
    # odd text
    for name, text in (
        ("nul", "4\x002"),
        ("surrogate", "4\ud8002"),
        ("rtl", "\u202e24"),
        ("emoji", "\U0001f600"),
        ("combining", "4" + "\u0301" * 3000),
        ("wide", "\uff14\uff13"),
        ("zero width", "4\u200b3"),
        ("nothing", ""),
        ("only space", " "),
        ("only backslash", "\\"),
        ("only frac", "\\frac"),
        ("half frac", "\\frac{1"),
        ("comment", "%42"),
        ("newlines", "\n" * 5000 + "43"),
        ("input", "\\input{/etc/passwd}"),
        ("def", "\\def\\x{\\x\\x}\\x"),
        ("csname", "\\csname end\\endcsname"),
    ):
        add(f"odd {name}", text)
    return out


#: Attempts to make the grader run code. {0} is the path that must not appear.
INJECTIONS = [
    "__import__('os').system('touch {0}')",
    "exec(\"open('{0}','w')\")",
    "eval(\"open('{0}','w').write('x')\")",
    "\\text{{__import__('os').system('touch {0}')}}",
    "[__import__('os').system('touch {0}')]",
    "().__class__.__base__.__subclasses__()",
    "\\pi + open('{0}','w').close()",
    "lambda: open('{0}','w')",
    "Symbol('x').subs(__import__('os').system('touch {0}'),1)",
    "f\"{{__import__('os').system('touch {0}')}}\"",
    "1 if open('{0}','w') else 2",
    "\\begin{{pmatrix}}__import__('os').system('touch {0}')\\end{{pmatrix}}",
    "\\immediate\\write18{{touch {0}}}",
    "\\input{{|touch {0}}}",
    "$(touch {0})",
    "`touch {0}`",
    "; touch {0} #",
    "\\operatorname{{exec}}(open('{0}','w'))",
    "\\int_0^1 __import__('os').system('touch {0}') dx",
    "x_{{__import__('os').system('touch {0}')}}",
    "\\sum_{{k=1}}^{{open('{0}','w')}} k",
    "!!python/object/apply:os.system ['touch {0}']",
]
