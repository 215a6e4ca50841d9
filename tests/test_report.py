"""The report page: a structural check always, and a real browser where Chromium is installed."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.test_ledger import CLAIMS, fixture
from verification import ledger, runner
from verification.coverage import DOCUMENTS
from verification.model import GRADES, VERDICTS, Control, Measurement
from verification.plots import picture
from verification.report import AUTHORS, MEANINGS, cited, render
from verification.report.tex import faults, typeset
from verification.verdict import judge

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
VOID = {"meta", "link", "img", "input", "br", "wbr"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of the fixture claims: its path and its ledger."""
    claims = [claim for claim in CLAIMS if claim.document == "fixture" and claim.budget.quick]
    judged = {claim.id: judge(claim, budget=40, seed=0) for claim in claims}
    entries = [ledger.entry(claim, judged[claim.id], level="quick", seed=0) for claim in claims]
    whole = ledger.ledger(entries, level="quick", seed=0, versions=runner.versions())
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(
        render(whole, {name: ledger.figure(found) for name, found in judged.items()}), encoding="utf-8"
    )
    return path, whole["claims"]


class Outline(HTMLParser):
    """Tags in order, with the errors of their nesting."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.errors = [], [], []
        self.feed(text)
        self.close()
        self.errors += [f"never closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()}")


def test_structure(page):
    """Well nested, every id once, every control labelled, every picture inside the file and described."""
    path, claims = page
    text = path.read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.errors == []
    attributes = [attrs for _, attrs, _ in outline.tags]
    ids = Counter(attrs["id"] for attrs in attributes if "id" in attrs)
    assert max(ids.values()) == 1
    assert {claim["id"] for claim in claims} <= set(ids)
    assert all("label" in inside for tag, _, inside in outline.tags if tag in ("select", "input"))
    pictures = [attrs for tag, attrs, _ in outline.tags if tag == "img"]
    assert pictures
    assert all(attrs["src"].startswith("data:image/") and len(attrs["alt"]) > 20 for attrs in pictures)
    targets = [attrs[name] for attrs in attributes for name in ("src", "href") if name in attrs]
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"(url\(|@import|fetch\(|XMLHttpRequest|//cdn)", text)
    assert Counter(tag for tag, _, _ in outline.tags)["math"] > len(claims)


def test_what_a_claim_shows(page):
    """Statement, hypotheses, evidence, controls, counterexample and command, correction and proof."""
    path, claims = page
    text = path.read_text(encoding="utf-8")
    for needle in (
        "Smallest counterexample",
        "python -m verification --claim fixture/erratum-3@printed --instance",
        "Not refuted by 40 instances of the same hunt",
        "Hypotheses, checked on every instance",
        "✓ fails, as it must",
        "✗ does not fail",
        "✓ passes, as it must",
        "agree to 1",
        "The same hunt refutes",
        "error: RuntimeWarning while measuring",
    ):
        assert needle in text, needle
    assert all(claim["command"].startswith("python -m verification --claim ") for claim in claims)


def test_the_page_explains_its_words(page):
    """Every verdict and grade in the legend that the index links to, and what "worst case" stands for."""
    text = page[0].read_text(encoding="utf-8")
    legend = text[text.index('<section id="meaning">') :]
    assert list(MEANINGS) == [*VERDICTS, *GRADES]
    for word, meaning in MEANINGS.items():
        assert f">{word}</span></dt><dd>{meaning}</dd>" in legend
    assert '<a href="#meaning">Verdict</a>' in text
    explained = re.search(r'<p class="meta" id="worst-case">(.+?)</p>', text)[1]
    assert all(word in explained for word in ("share of what the bound", "digits", "exact", "above 0"))


def test_documents_are_named_in_full(page):
    assert list(AUTHORS) == list(DOCUMENTS)
    known = {"document": "contraction", "id": "contraction/rate"}
    claims = [{**claim, **known} for claim in page[1] if claim["id"] == "fixture/rate"]
    whole = ledger.ledger(claims, level="quick", seed=0, versions={})
    assert cited("contraction") in render(whole, {})
    assert cited("contraction") == f"{DOCUMENTS['contraction']} (Grazzi, Pontil, Salzo 2023)"
    assert cited("fixture") == ""


def test_the_smallest_effect_of_an_undecided_experiment_is_shown():
    broken = Control("raises", kind="formula", measure=lambda x: 1 / 0)
    seen = Measurement(observed=0.5, bound=1.0, detail={"smallest effect": 0.125})
    claim = fixture("experiment", measure=lambda _: seen, grade="illustrative", controls=(broken,))
    judged = judge(claim, budget=5, seed=0)
    assert judged.verdict == "undecided"
    entry = ledger.entry(claim, judged, level="quick", seed=0)
    text = render(ledger.ledger([entry], level="quick", seed=0, versions={}), {})
    assert '; smallest effect <span class="mono">0.125</span>' in text


def test_text_is_escaped_and_unknown_latex_is_shown_as_source():
    assert str(typeset("a < b & <script>")) == "a &lt; b &amp; &lt;script&gt;"
    assert str(typeset(r"see $\nosuchmacro{x}$")) == r"see <code>\nosuchmacro{x}</code>"
    assert "<math" in typeset(r"x \le 1", formula=True)
    assert typeset(r"$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$").count("<mtr>") == 2
    assert [
        len(faults(text, formula=True)) for text in (r"\frac{1}{2}", r"\nosuchmacro", "$a_{$ and $b$")
    ] == [0, 1, 1]


def test_every_registered_claim_is_typeset():
    """No formula of the ledger falls back to its source."""
    found = {}
    for claim_id, item in runner.discover().items():
        claim = item.claim
        texts = [
            (claim.statement, True),
            (claim.printed or "", True),
            (claim.title, False),
            (claim.notes, False),
        ]
        texts += [(hypothesis.tex, True) for hypothesis in claim.hypotheses]
        texts += [(control.name, False) for control in claim.controls]
        if claim.corrected is not None:
            texts += [(claim.corrected.tex, True), (claim.corrected.proof, False)]
        if claim.complete or claim.loose:
            texts.append((claim.complete or claim.loose, False))
        if wrong := [fault for text, formula in texts if text for fault in faults(text, formula=formula)]:
            found[claim_id] = wrong
    assert found == {}


def test_pictures():
    """All zero or too few points: no picture; violations, zeros and huge ranges are drawn and counted."""
    assert picture({"kind": "cloud", "allowed": [0.0] * 9, "observed": [0.0] * 9}) is None
    assert picture({"kind": "cloud", "allowed": [1.0] * 4, "observed": [0.5] * 4}) is None
    allowed = [1.0, 2.0, 3.0, 1e-300, 1e308, 1.0, 1.0, -1.0]
    wide = {"allowed": allowed, "observed": [1e-308, 3.0, 0.0, 1e-301, 1.0, 0.5, 1e-10, 1e-5]}
    drawn = picture({"kind": "cloud", **wide})
    assert "2 of 8 instances" in drawn.alt
    assert "3 observed below" in drawn.caption
    identity = picture({"kind": "cloud", "allowed": [0.0] * 6, "observed": [1.0, 2.0, 0.0, 3.0, 4.0, 5.0]})
    assert "5 of 6 instances" in identity.alt
    lines = {"x": [1.0, 2.0], "predicted": [1.0, 0.5], "measured": [0.9, 0.6], "logx": True, "logy": True}
    curve = picture({"kind": "curve", **lines, "xlabel": "t", "ylabel": "error"})
    assert "at 1 of 2 points" in curve.alt


class Browser:
    """Headless Chromium, spoken to over its debugging pipe: JSON that ends in NUL, descriptors 3 and 4."""

    def __init__(self, profile):
        (child_in, self.to), (self.source, child_out) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 30) for end in (child_in, child_out)]  # clear of 3 and 4
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        script = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(["bash", "-c", script, "browser", *command], pass_fds=ends, **quiet)
        for end in (child_in, child_out, *ends):
            os.close(end)
        self.buffer, self.events, self.count, self.session = b"", [], 0, None

    def close(self):
        self.send("Browser.close")
        os.close(self.to)
        self.process.wait(timeout=30)
        os.close(self.source)

    def send(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session and not method.startswith(("Browser.", "Target.")):
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.count

    def receive(self):
        while b"\0" not in self.buffer:
            data = os.read(self.source, 1 << 16)
            assert data, "the browser went away"
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        number = self.send(method, **params)
        while (message := self.receive()).get("id") != number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, script):
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def heard(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: test_structure validated the HTML, no browser opened it")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    opened.open(page[0].as_uri())
    yield opened
    opened.close()


VISIBLE = """
[...document.querySelectorAll('#index tbody tr')].filter(row => row.checkVisibility())
  .map(row => row.dataset.for)
"""
SOON = "new Promise(go => setTimeout(go, 50))"  # after the events that the line before has caused
SECTIONS = """
[...document.querySelectorAll('details.claim')].filter(node => node.checkVisibility()).map(node => node.id)
"""


def choose(browser, **values):
    """Clear the filters, set these as a user would, and return the claims that the index still shows."""
    lines = [
        f"form.elements[{json.dumps(name)}].value = {json.dumps(value)};"
        f"form.elements[{json.dumps(name)}].dispatchEvent(new Event('input', {{bubbles: true}}));"
        for name, value in values.items()
    ]
    browser.evaluate(f"document.querySelector('#filters button[type=reset]').click(); {SOON}")
    browser.evaluate("".join(lines))
    shown = browser.evaluate(VISIBLE)
    assert browser.evaluate(SECTIONS) == shown
    assert browser.evaluate("document.getElementById('shown').textContent").startswith(f"{len(shown)} of ")
    return set(shown)


def test_the_filters_work(browser, page):
    claims = page[1]
    assert choose(browser) == {claim["id"] for claim in claims}
    for name in ("verdict", "grade", "document"):
        for value in {claim[name] for claim in claims}:
            expected = {claim["id"] for claim in claims if claim[name] == value}
            assert choose(browser, **{name: value}) == expected
    assert choose(browser, verdict="not refuted", text="contraction LINEARLY") == {"fixture/rate"}
    assert choose(browser, verdict="refuted", grade="exact") == set()
    assert choose(browser, text="erratum-3@") == {"fixture/erratum-3@printed"}


def test_links_open_their_claim_and_buttons_work(browser):
    choose(browser)
    browser.evaluate(f"document.querySelector('#index a[href=\"#fixture/rate\"]').click(); {SOON}")
    assert browser.evaluate("[...document.querySelectorAll('details[open]')].map(node => node.id)") == [
        "fixture/rate"
    ]
    browser.evaluate("toggle.click()")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    loaded = browser.evaluate(
        "Promise.all([...document.images].map(image => image.decode()))"
        ".then(() => Math.min(...[...document.images].map(image => image.naturalWidth)))"
    )
    assert loaded > 300
    narrowest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width))"
    )
    assert narrowest > 0
    browser.evaluate("copy(document.querySelector('[data-copy]'))")
    assert browser.evaluate("document.querySelector('[data-copy]').textContent") in ("Copied", "Selected")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    browser.evaluate("toggle.click()")
    assert browser.evaluate("document.querySelectorAll('details[open]').length") == 0


def test_verdicts_are_seen_on_a_narrow_screen(browser):
    """At 500 px, with the id that breaks worst: the whole table lies inside the window."""
    longest = max(runner.discover(), key=lambda claim_id: max(map(len, claim_id.split("-"))))
    link = "document.querySelector('#index tbody a')"
    before = browser.evaluate(f"{link}.textContent")
    browser.evaluate(f"{link}.textContent = {json.dumps(longest)}")
    size = {"width": 500, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    ends = browser.evaluate(
        "[...document.querySelectorAll('#index td:nth-child(-n + 3), #index .badge:not(.grade)')]"
        ".map(node => node.getBoundingClientRect()).map(box => [box.width, box.right])"
    )
    inside = browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.evaluate(f"{link}.textContent = {json.dumps(before)}")
    assert ends
    assert all(width > 0 and right <= 500 for width, right in ends)
    assert inside


CONTRAST = """
(() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
    const [r, g, b] = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.startsWith('rgba')) return colour;
    }
  };
  let worst = [21, ''];
  const texts = 'body h1 h3 p a td th label select button code summary figcaption .badge .soft .yes .no';
  for (const node of document.querySelectorAll(texts.split(' ').join(','))) {
    const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${node.tagName}.${node.className}`];
  }
  return worst;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, scheme):
    """At least 4.5 : 1 (WCAG AA) for every kind of text, in both colour schemes."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    ratio, where = browser.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_no_errors_and_nothing_fetched(browser, page):
    """What the console and the network saw while this test and those before it used the page."""
    choose(browser, verdict="refuted", text="sum")
    browser.evaluate("toggle.click(); copy(document.querySelector('details:not([hidden]) [data-copy]'))")
    assert browser.heard("Runtime.exceptionThrown") == []
    assert [entry["entry"] for entry in browser.heard("Log.entryAdded")] == []
    assert [
        call for call in browser.heard("Runtime.consoleAPICalled") if call["type"] in ("error", "warning")
    ] == []
    urls = {request["request"]["url"] for request in browser.heard("Network.requestWillBeSent")}
    assert page[0].as_uri() in urls
    assert {url for url in urls if not url.startswith("data:")} == {page[0].as_uri()}
    assert Path(page[0]).stat().st_size < 2**20
