"""Our own labelled answers, by kind: (gold, answers that are right, answers that are wrong)."""

Case = tuple[str, list[str], list[str]]

CASES: dict[str, list[Case]] = {
    "integers": [
        (
            "17",
            ["17", "+17", "17.0", "017", "\\text{17}", "34/2", "$17$"],
            ["-17", "18", "1 7", "71"],
        ),
        ("-4", ["-4", "- 4", "\u22124", "-(4)"], ["4", "-5", "--4"]),
        (
            "1024",
            ["2^{10}", "1,024", "1\\,024", "1{,}024", "1024."],
            ["1025", "2^{11}", "10.24", "1,02,4"],
        ),
        ("100000", ["100000", "10^5", "100,000"], ["100001", "99999.9999", "10^6"]),
        ("0", ["0.0", "\\frac{0}{7}", "3-3"], ["1", "\\frac{1}{10^{40}}", "0.0001", "\\emptyset"]),
        ("\\frac{100!}{99!}", ["100"], ["99", "101"]),
        ("2^{2005}", ["2^{2005}", "2\\cdot 2^{2004}", "4^{1002.5}"], ["2^{2005}+1", "2^{2004}"]),
        ("120", ["5!", "\\binom{10}{3}", "\\binom{16}{2}"], ["5!!", "4!", "\\binom{10}{4}"]),
    ],
    "fractions": [
        (
            "\\frac{5}{8}",
            [
                "5/8",
                "0.625",
                "\\dfrac58",
                "\\frac{10}{16}",
                "\\tfrac 5 8",
                ".625",
                "\\frac{-5}{-8}",
            ],
            ["8/5", "-\\frac58", "0.62", "0.63", "58", "\\frac{5}{9}"],
        ),
        (
            "\\frac{2}{9}",
            ["2/9", "0.\\overline{2}", "\\frac{4}{18}", "2\\cdot 9^{-1}"],
            ["0.2", "0.22", "0.2222222", "29"],
        ),
        (
            "-\\frac{5}{2}",
            ["\\frac{-5}{2}", "\\frac{5}{-2}", "-2.5", "-2\\frac12"],
            ["\\frac52", "-\\frac25", "2\\frac12", "-1.5"],
        ),
        (
            "3\\frac{1}{2}",
            ["3.5", "7/2", "3 1/2", "3\\frac12"],
            ["\\frac{3}{2}", "31/2", "-3\\frac12"],
        ),
        ("\\frac{1}{2004!}", ["\\frac{1}{2004!}"], ["\\frac{1}{2006!}", "0", "\\frac{2}{2004!}"]),
        ("\\frac{1}{3^{80}}", ["3^{-80}", "\\frac{3}{3^{81}}"], ["\\frac{1}{3^{79}}", "0"]),
    ],
    "decimals": [
        (
            "0.125",
            [".125", "1/8", "12.5\\%", "1.25\\times 10^{-1}", "1.25e-1"],
            ["0.12", "0.13", "125", "1.25"],
        ),
        ("3.14", ["3.14", "3.140", "314/100"], ["\\pi", "3.1415", "3.15", "3,14159"]),
        (
            "4.18\\times 10^{17}",
            ["4.18 \\cdot 10^{17}", "4.18e17", "41.8\\times10^{16}"],
            ["4.18\\times 10^{16}", "4.18", "4.18\\times 10^{-17}"],
        ),
        (
            "0.1\\overline{6}",
            ["1/6", "0.1\\overline{6}", "0.1\\overline{66}"],
            ["0.16", "0.\\overline{16}", "0.17"],
        ),
    ],
    "percent": [
        (
            "40\\%",
            ["40\\%", "40%", "40 percent", "0.4", "\\frac25", "40", "40\\text{ percent}"],
            ["4\\%", "4", "400", "60\\%", "0.04"],
        ),
        ("40", ["40", "40\\%"], ["0.4", "4000", "41\\%"]),
        ("0.5", ["50\\%", "0.5", "1/2"], ["50", "5\\%", "0.5\\%"]),
    ],
    "currency": [
        (
            "\\$12.50",
            ["12.50", "12.5", "\\$12.5", "$12.50", "12.50\\text{ dollars}", "12.5 dollars"],
            ["1250", "\\$12", "12.50\\text{ euros}", "\\$12.05"],
        ),
        ("3,475", ["\\$3,475", "3475", "3475 dollars"], ["3.475", "347", "(3, 475)"]),
    ],
    "units": [
        (
            "10\\text{ cm}",
            ["10", "10 cm", "10\\,\\mathrm{cm}", "0.1\\text{ m}", "100 mm"],
            ["10\\text{ m}", "10\\text{ cm}^2", "11\\text{ cm}", "10\\text{ kg}"],
        ),
        (
            "25\\text{ m}^2",
            ["25 m^2", "25", "25\\text{ square meters}", "25\\ \\mathrm{m}^2"],
            ["25\\text{ m}", "25\\text{ m}^3", "5^2\\text{ cm}^2"],
        ),
        (
            "60 \\text{ mph}",
            ["60", "60 mph", "60 \\text{ miles per hour}"],
            ["60\\text{ km/h}", "1 mph"],
        ),
        ("2t", ["2t", "t\\cdot 2", "t+t"], ["2", "2s", "t"]),
        ("4y+7m", ["7m+4y"], ["4y+7", "4y+7n"]),
        (
            "12",
            ["12\\text{ apples}", "12 cm"],
            ["12t", "12x", "12\\text{ apples and }3\\text{ pears}"],
        ),
    ],
    "degrees": [
        (
            "60^\\circ",
            ["60", "60^{\\circ}", "60\\text{ degrees}", "\\frac{\\pi}{3}", "60\u00b0"],
            ["30^\\circ", "\\frac{\\pi}{6}", "120^\\circ", "6^\\circ"],
        ),
        (
            "\\frac{\\pi}{2}",
            ["\\pi/2", "0.5\\pi", "90^\\circ"],
            ["\\pi", "90.5^\\circ", "1.5708", "-\\frac{\\pi}{2}"],
        ),
    ],
    "ratios": [
        ("4:7", ["4:7", "8:14", "\\frac47", "4/7", "4\\text{ to }7"], ["7:4", "4:8", "4", "11"]),
        ("1:2:3", ["1:2:3", "2:4:6"], ["1:2:4", "3:2:1", "1:2", "1:4:9"]),
        ("1:2:3:\\ldots:n", ["1:2:3:\\ldots:n"], ["1:4:9:\\ldots:n^2"]),
    ],
    "base_n": [
        (
            "1011_2",
            ["1011_2", "1011_{2}", "1011_{\\text{two}}", "(1011)_2"],
            ["1011_3", "1010_2", "11"],
        ),
        ("3F_{16}", ["3F_{16}"], ["3E_{16}", "63_{8}"]),
    ],
    "plus_minus": [
        (
            "\\pm 8",
            ["\\pm8", "8, -8", "-8, 8", "\\{8,-8\\}", "8\\text{ or }-8", "x=\\pm 8", "\u00b18"],
            ["8", "-8", "\\pm 9", "8, 8", "8,-8,0"],
        ),
        (
            "1\\pm\\sqrt{2}",
            ["1+\\sqrt2, 1-\\sqrt2", "\\{1-\\sqrt{2},1+\\sqrt{2}\\}", "1\\mp\\sqrt2"],
            ["1+\\sqrt2", "-1\\pm\\sqrt2", "1\\pm\\sqrt3", "\\pm 1+2"],
        ),
    ],
    "intervals": [
        (
            "[2,7)",
            ["[2, 7)", "2\\le x<7", "x\\in[2,7)", "\\left[2,7\\right)", "\\{x: 2\\le x<7\\}"],
            ["(2,7)", "[2,7]", "(2,7]", "[2,8)", "\\{2,7\\}", "2<x<7"],
        ),
        (
            "(-\\infty,2)\\cup(3,\\infty)",
            [
                "x<2\\text{ or }x>3",
                "(3,\\infty)\\cup(-\\infty,2)",
                "(3, +\\infty) \\cup (-\\infty, 2)",
            ],
            [
                "(-\\infty,2)",
                "(2,3)",
                "(-\\infty,2]\\cup(3,\\infty)",
                "(-\\infty,\\infty)",
                "x<2\\text{ and }x<3",
            ],
        ),
        (
            "\\mathbb{R}\\setminus\\{1\\}",
            ["(-\\infty,1)\\cup(1,\\infty)", "x\\ne 1", "\\mathbb{R}\\backslash\\{1\\}"],
            ["\\mathbb{R}", "x\\ne 2", "(1,\\infty)", "1"],
        ),
        ("(1,2)", ["(1,2)", "(1, 2)", "(\\frac22,\\sqrt4)"], ["(2,1)", "(1,3)", "1", "(1,2,3)"]),
    ],
    "sets": [
        (
            "\\{2,4,9\\}",
            ["\\{9,4,2\\}", "2,4,9", "9, 2, 4", "\\{2,4,9,9\\}", "2, 4\\text{ and }9"],
            ["\\{2,4\\}", "\\{2,4,8\\}", "\\{2,4,9,1\\}", "15", "249"],
        ),
        ("\\emptyset", ["\\varnothing", "\\text{no solution}"], ["0", "\\{\\emptyset\\}"]),
        (
            "1, 2",
            ["2, 1", "x=1, x=2", "x=1\\text{ or }x=2", "\\{1,2\\}"],
            ["1", "2", "1,2,2,3", "1,3", "12", "1.2"],
        ),
        (
            "x=4, y=7",
            ["(4,7)", "y=7, x=4", "x=4\\text{ and }y=7"],
            ["x=7, y=4", "(7,4)", "x=4", "11"],
        ),
    ],
    "tuples": [
        ("(1,2)", ["(1;2)", "x=1, y=2"], ["x=1, x=2", "x=1\\text{ or }x=2", "x=1,2", "\\{1,2\\}"]),
        (
            "(1,-2)",
            ["(1,-2)", "(1, -2)", "(x,y)=(1,-2)", "x=1, y=-2", "\\left(1,-2\\right)"],
            ["(-2,1)", "(1,2)", "(1,-2,0)", "-2", "-1"],
        ),
        (
            "(\\frac12,\\sqrt2,3)",
            ["(0.5,\\sqrt{2},3)", "(\\frac{1}{2},2^{1/2},3)"],
            ["(0.5,\\sqrt2)", "(0.5,1.414,3)", "(3,\\sqrt2,0.5)"],
        ),
        (
            "(1,5),(6,2)",
            ["(6,2),(1,5)", "\\{(1,5),(6,2)\\}", "(1,5)\\text{ and }(6,2)"],
            ["(1,5)", "(1,5,6,2)", "(5,1),(2,6)", "(1,6),(5,2)"],
        ),
    ],
    "sequences": [
        ("1, 4, 9, \\ldots", ["1,4,9,\\dots", "1, 4, 9, \\cdots"], ["1,4,16,\\ldots", "1,4,9"]),
    ],
    "matrices": [
        (
            "\\begin{pmatrix}5&2\\\\3&7\\end{pmatrix}",
            [
                "\\begin{bmatrix}5&2\\\\3&7\\end{bmatrix}",
                "\\begin{pmatrix} 5 & 2 \\\\ 3 & \\frac{14}2 \\end{pmatrix}",
            ],
            [
                "\\begin{pmatrix}5&3\\\\2&7\\end{pmatrix}",
                "\\begin{pmatrix}5&2\\end{pmatrix}",
                "29",
                "\\begin{pmatrix}5&2\\\\3&-7\\end{pmatrix}",
            ],
        ),
        (
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
            ["\\begin{bmatrix}1\\\\2\\end{bmatrix}", "(1,2)"],
            ["(2,1)", "\\begin{pmatrix}2\\\\1\\end{pmatrix}", "3"],
        ),
    ],
    "inequalities": [
        (
            "x>3",
            ["x>3", "3<x", "(3,\\infty)", "x \\gt 3", "2x>6"],
            ["x\\ge3", "x<3", "3", "x>4", "y>3"],
        ),
        (
            "-1\\le x\\le 2",
            ["[-1,2]", "2\\ge x\\ge -1", "x\\in[-1,2]", "x\\geq-1\\text{ and }x\\leq2"],
            ["(-1,2)", "-1<x\\le2", "x\\le2", "[-2,1]", "\\{-1,2\\}"],
        ),
        (
            "|x|>1",
            ["x<-1\\text{ or }x>1", "(-\\infty,-1)\\cup(1,\\infty)"],
            ["x>1", "|x|\\ge1", "(-1,1)"],
        ),
        ("a+b\\le c", ["c\\ge a+b", "a+b-c\\le0"], ["a+b\\ge c", "a+b<c", "a+b=c"]),
    ],
    "polynomials": [
        (
            "x^2-1",
            ["(x-1)(x+1)", "-1+x^2", "x\\cdot x-1", "(x+1)(x-1)"],
            ["x^2+1", "x^2", "(x-1)^2", "y^2-1"],
        ),
        (
            "(x+y+z+w)^{60}",
            ["(w+z+y+x)^{60}"],
            ["(x+y+z+w)^{60}+1", "(x+y+z+w)^{59}", "(x+y+z-w)^{60}"],
        ),
        ("\\frac{x+1}{x-1}", ["1+\\frac{2}{x-1}", "\\frac{-x-1}{1-x}"], ["\\frac{x-1}{x+1}", "-1"]),
        ("3x^2y", ["3yx^2", "3x^{2}y"], ["3x^2+y", "3xy^2", "3x^2y^2"]),
    ],
    "equations": [
        (
            "y=2x+1",
            ["y=2x+1", "y=1+2x", "2x+1", "y-2x-1=0", "2x-y+1=0"],
            ["y=2x-1", "y=x+1", "y=-2x-1", "x=2y+1"],
        ),
        (
            "x^2+y^2=7",
            ["y^2+x^2=7", "x^2+y^2-7=0", "2x^2+2y^2=14"],
            ["x^2+y^2=5", "x^2-y^2=7", "7"],
        ),
        ("x=12", ["12", "x = 12.0", "12=x"], ["x=-12", "y=12x", "x+12", "2x=12"]),
        ("f(x)=x^2", ["x^2", "f(x)=x^2", "f(t)=t^2", "y=x^2"], ["f(x)=x^3", "x", "f(x)=2x"]),
    ],
    "trig_log_sqrt": [
        (
            "\\sqrt{8}",
            ["2\\sqrt2", "\\sqrt8", "8^{1/2}", "2^{3/2}"],
            ["\\sqrt2", "2.828", "-\\sqrt8", "4\\sqrt2"],
        ),
        ("\\sin^2 x+\\cos^2 x", ["1", "\\cos^2(x)+\\sin^2(x)"], ["0", "\\sin x+\\cos x", "2"]),
        ("\\sin 3x", ["3\\sin x-4\\sin^3 x", "\\sin(3x)"], ["3\\sin x", "\\sin x", "\\cos 3x"]),
        ("\\ln 6", ["\\ln2+\\ln3", "\\log_e 6"], ["\\ln 5", "\\ln2\\ln3", "6", "1.79"]),
        ("\\log_2 8", ["3"], ["2", "8", "4"]),
        (
            "\\frac{1}{\\sqrt2}",
            ["\\frac{\\sqrt2}{2}", "2^{-1/2}", "\\sqrt{\\frac12}"],
            ["\\sqrt2", "0.7071", "\\frac12"],
        ),
        ("1-\\frac1e", ["1-e^{-1}", "\\frac{e-1}{e}"], ["1+\\frac1e", "1+e^{-1}", "0.632"]),
        (
            "\\sqrt{2}+\\sqrt{3}",
            ["\\sqrt{5+2\\sqrt6}"],
            ["\\sqrt5", "\\sqrt6", "\\sqrt{5-2\\sqrt6}"],
        ),
        (
            "\\tan^{-1}(1)",
            ["\\arctan 1", "\\frac{\\pi}{4}"],
            ["\\frac{1}{\\tan 1}", "\\frac{\\pi}{3}"],
        ),
        ("e^{i\\pi}", ["-1"], ["1", "i"]),
    ],
    "complex": [
        ("5+2i", ["2i+5", "5+2\\cdot i", "5+i\\cdot2"], ["5-2i", "2+5i", "7i", "7", "-5-2i"]),
        ("-i", ["\\frac1i", "i^3", "-i"], ["i", "-1", "1"]),
    ],
    "families": [
        ("x^2+C", ["x^2+C", "C+x^2", "x^2+K", "x^2+C+1"], ["x^2", "x^2+x+C", "2x+C"]),
        (
            "3k\\pi, k\\in\\mathbb{Z}",
            ["3n\\pi, n\\in\\mathbb{Z}", "3\\pi k, k \\in \\mathbb{Z}"],
            ["2k\\pi, k\\in\\mathbb{Z}", "\\pi", "3k\\pi+1, k\\in\\mathbb{Z}"],
        ),
    ],
    "multiple_choice": [
        (
            "E",
            ["E", "(E)", "\\text{E}", "\\textbf{(E)}", "E.", "E) 42", "\\text{(E) } 42"],
            ["B", "A or E", "A, E", "e+1", "\\text{(B)}", "ABE"],
        ),
    ],
    "text": [
        (
            "\\text{Monday}",
            ["Monday", "\\text{monday}", "\\mathrm{Monday}"],
            ["Tuesday", "Mon day s", "M"],
        ),
        ("\\text{even}", ["even", "\\text{Even}"], ["odd", "\\text{not even}", "even or odd"]),
        ("Yes", ["\\text{yes}", "Yes", "yes"], ["No", "\\text{yes and no}"]),
    ],
    "chemical": [
        (
            "\\text{H}_2\\text{O}",
            ["H_2O", "\\mathrm{H_2O}", "\\text{H}_2\\text{O}"],
            ["H_2O_2", "CO_2", "\\text{HO}"],
        ),
        ("CO", ["\\text{CO}"], ["Co", "CO_2"]),
    ],
    "piecewise": [
        ("|x-50|", ["|50-x|", "\\sqrt{(x-50)^2}"], ["50-x", "x-50", "x+50"]),
        ("|x|y", ["y|x|"], ["xy", "-xy"]),
        ("\\max(x,100)", ["\\max(100,x)"], ["100", "x"]),
        ("(-1)^{m}a", ["a(-1)^{m+2}"], ["a", "-a"]),
        ("7+4(-1)^{n}", ["4(-1)^{n}+7"], ["11", "3"]),
        ("(-x)^{n}", ["(-1)^n x^n"], ["x^n", "-x^n"]),
        ("e^{|x|}", ["e^{|-x|}"], ["e^x", "e^{-x}"]),
        ("\\lfloor\\frac{n}{50}\\rfloor+n!", ["n!+\\lfloor n/50\\rfloor"], ["n!"]),
        ("\\binom{n}{20}", ["\\frac{n!}{20!(n-20)!}"], ["0"]),
    ],
    "spellings": [
        ("{n \\choose 2}", ["\\binom n2", "{n(n-1) \\over 2}"], ["\\binom{2}{n}", "\\frac n2"]),
        ("\\begin{cases}x=3\\\\y=8\\end{cases}", ["x=3, y=8", "(3,8)"], ["x=8, y=3", "x=3"]),
        ("P(2,-1)", ["(2,-1)", "P(2, -1)"], ["(-1,2)", "Q(2,-1)", "-2"]),
        ("\u20ac5", ["5", "5\\text{ euros}"], ["\\$5", "6"]),
        ("1.2\\text{ million}", ["1200000"], ["1.2", "1.2\\text{ billion}"]),
    ],
    "decimal_point": [(".5", ["0.5", ".50"], ["5", "50"]), ("125", ["125."], [".125", "1.25"])],
    "scripts": [
        ("2^{34}", ["2^{34}", "4^{17}"], ["2^{3}4", "2^34 4"]),
        ("x'", ["x'"], ["x"]),
        ("\\frac{dy}{dx}", ["dy/dx"], ["\\frac{y}{x}", "dx/dy"]),
    ],
    "symbolic": [
        (
            "\\frac{n(n+3)}{2}",
            ["\\frac{n^2+3n}{2}", "\\binom{n+2}{2}-1", "n(n+3)/2"],
            ["\\frac{n(n-3)}{2}", "n^2", "\\frac{n+3}{2}", "\\binom{n+2}{2}"],
        ),
        ("a^m a^n", ["a^{m+n}"], ["a^{mn}", "a^{m-n}"]),
        ("\\sqrt{x^2}", ["|x|"], ["x", "-x"]),
        ("2^{n+1}-2", ["2(2^n-1)", "2\\cdot2^n-2"], ["2^{n+1}", "2^n-2", "2^{n+2}-2"]),
    ],
}


#: More of them, one a line: 1 (right) or 0 (wrong), gold, answer.
LINES = r"""
1|x = 3, y = 4|(3, 4)
1|x=3,y=4|3, 4
0|x=3,y=4|4, 3
1|AB=4, CD=5|AB = 4 \text{ and } CD = 5
1|x \in \mathbb{R}, x \neq 2|x \neq 2
1|x \neq 2|(-\infty,2)\cup(2,\infty)
1|x \neq 2|x \in \mathbb{R} \setminus \{2\}
1|a>1|(1,+\infty)
0|(1,+\infty)|n>1, n \in \mathbb{Z}
0|[1,+\infty)|n \geq 1, n \in \mathbb{N}
1|(1,+\infty)|x>1, x \in \mathbb{R}
1|n>1|n>1, n \in \mathbb{Z}
1|(1,+\infty)|\{a \mid a > 1\}
1|\frac{x^{2}}{9}-\frac{y^{2}}{16}=1|16x^2-9y^2=144
1|y=\frac{1}{2}x-3|x-2y-6=0
1|f(x)=3x-1|3x-1
1|f(n)=n|f(x)=x
1|a_{n}=3^{n-1}|3^{n-1}
1|a_n = 2^n|2^{n}, n \in \mathbb{N}^*
1|S_{n}=n^2|n^2
1|m=3|3
1|-3, 5|x = -3 \text{ or } x = 5
1|x_{1}=2,x_{2}=-3|2, -3
1|10\%|0.1
1|10\%|\frac{1}{10}
1|\frac{1}{4}|25\%
0|10\%|1\%
1|5 \text{ km/h}|5
1|36^{\circ}|\frac{\pi}{5}
1|\frac{\pi}{3}|60^\circ
1|\arcsin \frac{1}{3}|\sin^{-1}\frac13
1|\log_{2} 3|\frac{\ln 3}{\ln 2}
1|\lg 2|\log_{10} 2
1|e^{x}+C|C+e^x
1|\frac{1}{2}\sin 2x + C|\sin x \cos x + C
1|\tan x - x + C|-x+\tan(x)+C
1|y = C_1 e^x + C_2 e^{-x}|C_1 e^{x} + C_2 e^{-x}
1|y = C_1 e^x + C_2 e^{-x}|y=C_2e^{x}+C_1e^{-x}
0|y = C_1 e^x + C_2 e^{-x}|C_1 e^{x} + C_2 e^{x}
1|k\pi + \frac{\pi}{4}, k \in \mathbb{Z}|\frac{\pi}{4} + n\pi, \quad n \in \mathbb{Z}
1|x = 2k\pi, k \in \mathbb{Z}|x=2n\pi \text{ for } n \in \mathbb{Z}
1|2^{10}-1|1023
1|\binom{n}{2}|\frac{n(n-1)}{2}
1|n!|n \cdot (n-1)!
1|\frac{n(n+1)(2n+1)}{6}|\sum_{k=1}^n k^2
1|\sqrt[3]{2}|2^{1/3}
1|\sqrt[3]{-8}|-2
1|\frac{\sqrt{3}}{3}|\frac{1}{\sqrt{3}}
1|2\sqrt{3}-3|-3+2\sqrt{3}
1|\frac{1+\sqrt{5}}{2}|\frac{\sqrt5+1}{2}
0|\frac{1+\sqrt{5}}{2}|1.618
1|\frac{7\sqrt{2}}{10}|0.7\sqrt{2}
1|0.7|\frac{7}{10}
1|\left\{-2, \frac{1}{2}\right\}|\{0.5,-2\}
1|\{2\}|2
1|\{2\}|x=2
1|(2,3]|2<x\le3
1|-1<a<0|(-1,0)
1|a<-1 \text{ or } a>1|(-\infty,-1)\cup(1,+\infty)
1|a \leq -1 \text{ or } a \geq 1|(-\infty,-1] \cup [1,\infty)
1|3\text{ and }4|4\text{ and }3
1|3, 4|3 \text{ or } 4
1|(3,4)\text{ or }(4,3)|(4,3),(3,4)
1|(-1,0),(1,0)|(\pm1,0)
1|x=\pm\sqrt{2}|\pm\sqrt2
1|\pm\sqrt{2}|-\sqrt2,\sqrt2
1|\frac{3\pm\sqrt{5}}{2}|\frac{3+\sqrt5}{2},\frac{3-\sqrt5}{2}
1|30^\circ, 60^\circ, 90^\circ|90^\circ,60^\circ,30^\circ
1|30^\circ, 60^\circ, 90^\circ|30, 60, 90
1|\text{Tuesday}|Tuesday
1|\text{(B)}|B
1|B|\text{(B) }12
1|D|\mathbf{D}
1|D|\boxed{D}
1|\text{neither}|Neither
1|\text{True}|true
1|\text{increasing}|\text{ increasing }
1|0.\overline{142857}|\frac17
1|0.1\overline{23}|\frac{61}{495}
1|1.2\times10^{4}|12000
1|12000|1.2 \times 10^4
1|3.5\times 10^{-4}|0.00035
1|1,000,000|10^6
1|\$1,000|1000
1|\$18.90|18.90
1|\$18.90|\$18.9
1|\$0.05|5\text{ cents}
1|40|40\text{ mph}
1|2\text{ hours}|120\text{ minutes}
1|1\text{ km}|1000\text{ m}
1|6\text{ cm}|6\text{ centimeters}
1|32\pi|32\pi\text{ cubic inches}
1|24\text{ square inches}|24\text{ in}^2
1|9.8\text{ m/s}^2|9.8
1|50\text{ mph}|50\text{ miles per hour}
1|3\frac{3}{4}|\frac{15}{4}
1|3 \frac{3}{4}|3.75
1|\frac{15}{4}|3\frac34
1|1:3|\frac{1}{3}
1|1:3|1 : 3
1|3:2:1|3 : 2 : 1
1|10:30|10:30
0|10:30|1:3
1|234_5|234_{\text{five}}
1|11001_2|11001_{2}
1|6+8i|8i+6
1|\frac{1}{5}-\frac{2}{5}i|\frac{1-2i}{5}
1|\cos 60^\circ|\frac12
1|\sin\theta|\sin(\theta)
1|\frac{\sin x}{\cos x}|\tan x
1|\vec{0}|\vec{0}
1|\begin{pmatrix}1\\-2\\3\end{pmatrix}|(1,-2,3)
1|\begin{pmatrix}1\\-2\\3\end{pmatrix}|\langle 1,-2,3\rangle
1|\langle 1,2 \rangle|(1,2)
1|2\mathbf{i}+3\mathbf{j}|3\mathbf{j}+2\mathbf{i}
1|\begin{bmatrix}0.5&0\\0&1\end{bmatrix}|\begin{pmatrix}\frac12&0\\0&1\end{pmatrix}
1|\frac{1}{x+1}|(x+1)^{-1}
1|x^2-y^2|(x-y)(x+y)
1|(x-1)^2+(y+2)^2=9|x^2+y^2-2x+4y-4=0
1|3(x+2)(x-2)|3x^2-12
1|-x^2+4|4-x^2
1|xy|yx
1|2^{n}-1|-1+2^n
1|2^{2n}|4^n
1|(-1)^{n}|(-1)^{n+2}
1|\left(\frac{1}{2}\right)^{n}|2^{-n}
1|n^2+n|n(n+1)
1|\lfloor n/2 \rfloor|\left\lfloor \frac{n}{2} \right\rfloor
1|\max(a,b)|\max\{a,b\}
1|\gcd(12,18)|6
1|5!|120
1|\infty|+\infty
1|-\infty|-\infty
1|\text{DNE}|\text{does not exist}
1|\text{no solution}|\emptyset
1|\text{no real solutions}|\text{No real solutions}
1|\text{None}|none
1|\mathbb{R}|(-\infty,\infty)
1|\mathbb{R}|\text{all real numbers}
1|\text{all real numbers}|\mathbb{R}
1|\text{all real numbers}|(-\infty, \infty)
1|\text{infinitely many}|\text{infinitely many}
1|\frac{2}{3}\pi|\frac{2\pi}{3}
1|\frac{a+b}{2}|\frac{1}{2}(a+b)
1|\sqrt{a^2+b^2}|(a^2+b^2)^{1/2}
1|\sqrt{ab}|\sqrt{a}\sqrt{b}
1|y=-x|x+y=0
1|y = 3|3
1|PQ = 5|5
1|\angle A = 30^\circ|30^\circ
1|\angle ABC = 30^{\circ}|30
1|AB|BA
1|\triangle ABC|\triangle ABC
1|1+2+3|6
1|(1,2), (2,1)|\{(1,2),(2,1)\}
1|(x,y)=(1,2),(2,1)|(1,2),(2,1)
1|\left(\frac{1}{2}, \infty\right)|x > 0.5
1|0\leq x\leq 1|[0;1]
1|[0;1]|[0,1]
1|x < 3|(-\infty,3)
1|x < 3|3 > x
1|a^2+b^2 \ge 2ab|2ab \le a^2+b^2
1|p=2,q=5|(p,q)=(2,5)
1|2007^{2007}|2007^{2007}
1|12!|479001600
1|\frac{10!}{5!5!}|252
1|24\%|24
1|y=x^2|y = x^{2}
1|y=x^2|f(x)=x^2
1|a=2|a = 2.00
1|\frac12, -\frac13|x = \frac{1}{2}, -\frac{1}{3}
1|17\text{ years old}|17
1|5\text{ apples}|5
1|100\text{ students}|100
1|9\text{ ways}|9
1|\text{3}|3
1|\text{Saturday}|\textbf{Saturday}
0|\text{Saturday}|\text{Sunday}
0|(1,2)|[1,2]
0|(1,2)|\{1,2\}
0|\{1,2\}|(1,2)
0|[1,2]|(1,2)
0|x=1|x=1, x=2
0|x=1,2|x=1
0|2x+3|2x+3=0
0|y=2x+3|2x+3=0
0|\sqrt{2}|\pm\sqrt{2}
0|5|5x
0|5|5, 5
0|5|\{5, 6\}
0|5|5 \text{ or } 6
0|5|x>5
0|5|x\ge 5
0|5|\sqrt{5}
0|5|5\pi
0|5|5i
0|5|5_{7}
0|5|5^{\text{th}} 6
0|0.333|\frac13
0|\frac13|0.333
0|3.14159|\pi
0|a+b|ab
0|ab|a+b
0|f(x)=x|f(x)=-x
0|x^2+C|x^2
0|10|10^{1.0000001}
0|1|0.99999999999999999999
1|1|0.\overline{9}
0|10^{100}|10^{100}+1
0|\sin(10^{-30})|0
0|\sin x|x
0|e^x|1+x
0|2^{1000}|2^{1000}+1
0|\sqrt{10^{60}+1}|10^{30}
0|\frac{1}{10^{50}}|0
0|x^{100}|x^{101}
0|x|x+10^{-40}
0|\sqrt{x+10^{-60}}|\sqrt{x}
0|A|a
0|A|\text{A and C}
0|A|B
0|m|M
0|N|n
0|\text{cm}|\text{m}
0|(0,1)|0\le x\le 1
0|3\text{ m}|3\text{ s}
0|2\text{ hours}|2\text{ minutes}
0|1:2|2:1
0|1:2|1:3
0|2:3|2.3
0|23_5|23
0|23|23_5
0|12|1,2
0|1,2|12
0|1,2|1.2
0|(1,2,3)|(1,2),3
0|\begin{pmatrix}1&2\end{pmatrix}|\begin{pmatrix}2&1\end{pmatrix}
0|\text{yes}|\text{yes or no}
0|\ln 2|\log_{10}2
0|x>1|x>1, x<5
0|x>1|x>1\text{ or }x<-1
0|[0,1]\cup[2,3]|[0,1]
0|[0,1]\cup[2,3]|[0,3]
0|(0,1)\cup(1,2)|(0,2)\setminus\{0.5\}
1|(0,1)\cup(1,2)|(0,2)\setminus\{1\}
0|2k\pi, k\in\mathbb{Z}|k\pi, k\in\mathbb{Z}
0|y=x|y=x+1
0|y=x|x=-y
0|\{1,2,3\}|\{1,2,3,\ldots\}
0|\{1,2,\ldots,10\}|\{1,2,\ldots,11\}
0|H_2O|H_2O_2
0|a_1|a_2
0|x_1|x
0|x'|x
0|\overline{AB}|\overline{AC}
0|\vec{a}|\vec{b}
0|\hat{i}|i
0|2\vec{a}|2a
0|f'(x)|f(x)
0|\frac{dy}{dx}|\frac{y}{x}
0|i|1
0|\text{NaCl}|\text{KCl}
0|\text{Co}|\text{CO}
0|0|\text{no solution}
0|a<b<c|a<c<b
1|a<b<c|c>b>a
0|a<b|b<a
1|x\equiv 3 \pmod{7}|x \equiv 3 \pmod 7
0|x\equiv 3 \pmod{7}|x \equiv 4 \pmod 7
0|x\equiv 3 \pmod{7}|x \equiv 3 \pmod 5
0|3 \pmod 7|3 \pmod 5
1|x^2 + y^2 - 1 = 0|x^2+y^2=1
0|5\text{ or }-5|5
1|\text{50 mph}|50
1|30\text{ minutes}|0.5\text{ hours}
1|n \geq 3|n\ge3
1|n=2k, k\in\mathbb{N}|n=2k,k \in \mathbb{N}
1|1.5|1\frac12
1|1.5|\frac{3}{2}\text{ hours}
1|1/2|.5
1|-1/2|-.5
1|2/3|\frac{2}{3}
1|\frac{-1}{3}|-\frac{1}{3}
1|1\,234|1234
1|(1;2)|(1,2)
1|1;2|1, 2
1|\left(-1,\frac{\sqrt3}{2}\right)|(-1, \sqrt{3}/2)
1|r=2\cos\theta|r = 2 \cos(\theta)
1|x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}|\frac{-b\pm\sqrt{b^2-4ac}}{2a}
1|\frac{e^{x}-e^{-x}}{2}|\sinh x
1|2\ln 2 - 1|\ln 4 - 1
1|\ln\frac{3}{2}|\ln 3 - \ln 2
1|\frac{1}{2}\ln 3|\ln\sqrt3
1|\log_3 2|\frac{\log 2}{\log 3}
1|\cos\frac{\pi}{5}|\frac{1+\sqrt5}{4}
1|\cos 36^\circ|\frac{1+\sqrt5}{4}
1|\arctan 2|\tan^{-1} 2
1|\frac{\pi}{2}-\arctan 2|\arctan\frac12
1|\int_0^1 x dx|\frac12
1|\lim_{x\to 0} \frac{\sin x}{x}|1
1|\sum_{n=1}^{\infty} \frac{1}{n^2}|\frac{\pi^2}{6}
1|\int_0^\infty e^{-x} dx|1
1|\int_0^\pi \sin x\,dx|2
1|2,500,000|2.5 million
0|2,500,000|2.5 billion
1|3500000|\$3.5 million
1|5:3|10 \colon 6
1|2102_3|2102_{(3)}
1|CAB_{16}|CAB_{16}
0|CAB_{16}|BAC_{16}
0|AB_{16}|BA_{16}
1|B_{12}|B_{12}
1|[-1,4)|[-1,4[
1|(0,1)|x\in ]0,1[
1|(1,2]\cup[3,4)|]1,2]\cup[3,4[
0|[1,2]|]1,2[
0|x\le -2\text{ or }x\ge 2|x\le -2\text{ and }x\ge 2
0|(-\infty,-2]\cup[2,\infty)|x\le -2\text{ and }x\ge 2
0|x>5\text{ and }x<3|x>2\text{ and }x<1
1|x>2\text{ and }x<1|x<1\text{ and }x>2
1|x^2+C|x^2+\text{constant}
0|2x+C|x^2+\text{constant}
1|\frac{\pi}{6}+2k\pi|2n\pi+\frac{\pi}{6}
1|\frac{\pi}{6}+2k\pi|\frac{13\pi}{6}+2\pi n
1|x=\frac{\pi}{3}+k\pi, x=\frac{\pi}{4}+k\pi|x=\frac\pi4+n\pi, x=\frac\pi3+n\pi
0|\frac{\pi}{6}+2k\pi|\frac{\pi}{6}+n\pi
0|k\pi|n\pi+\frac{\pi}{2}
0|k^2\pi|n^2\pi
0|n\pi|-n\pi
1|\vec{i}+2\vec{j}|\mathbf{i}+2\mathbf{j}
1|2\hat{i}-\hat{j}|-\hat{\jmath}+2\hat{\imath}
0|2\hat{i}-\hat{j}|2\hat{j}-\hat{i}
1|\Gamma(\frac12)|\sqrt{\pi}
1|n!|\Gamma(n+1)
0|n!|\Gamma(n)
1|\zeta(2)|\frac{\pi^2}{6}
0|\zeta(2)|\frac{\pi^2}{8}
1|\zeta-\zeta^2|\zeta(1-\zeta)
0|x=2\text{ or }x=-5|x=2\text{ or }y=-5
0|x=2, x=-5|t=2, t=-5
1|x=2, x=-5|x_1=2, x_2=-5
1|x=2\text{ or }x=-5|x\in\{2,-5\}
0|x=2\text{ or }x=-5|y\in\{2,-5\}
0|f(\sqrt2)|f(1.4142135623731)
1|f(\sqrt8)|f(2\sqrt2)
1|42\text{ inches}|3\text{ feet }6\text{ inches}
1|3\text{ feet }6\text{ inches}|3.5\text{ feet}
1|135\text{ minutes}|2\text{ hours }15\text{ minutes}
0|3\text{ feet }6\text{ inches}|6\text{ feet }3\text{ inches}
0|5|3\text{ cm }2\text{ kg}
1|42|\text{Answer: }42
1|(4,7)|y=7, x=4
0|(7,4)|y=7, x=4
0|7,4|y=7, x=4
0|x=1, y=2|\{1,2\}
0|x=3, y=4|3\text{ or }4
1|x=3, y=4|3\text{ and }4
1|x=2\text{ or }x=3|x_1=2, x_2=3
1|x_1=2, x_2=3|\{3,2\}
0|x=1, y=2|]1,2[
1|x<2|]-\infty,2[
0|n=2k, k\in\mathbb{N}|2-2p
0|n=2k, k\in\mathbb{N}|n=-2k, k\in\mathbb{N}
1|n=2k, k\in\mathbb{N}|n=2m, m\in\mathbb{N}
1|n=2k, k\in\mathbb{Z}|n=-2k, k\in\mathbb{Z}
"""


def pairs() -> list[tuple[str, str, str, bool]]:
    """(kind, gold, answer, whether it is right) for every case."""
    listed = [
        (kind, gold, answer, good)
        for kind, cases in CASES.items()
        for gold, right, wrong in cases
        for answers, good in ((right, True), (wrong, False))
        for answer in answers
    ]
    for line in LINES.strip().split("\n"):
        mark, gold, answer = line.split("|")
        listed.append(("lines", gold, answer, mark == "1"))
    return listed
