#!/usr/bin/env python3
"""Opens HTML reports in headless Chromium, light and dark, on a desk and on a phone.

    check_report.py [--screenshots DIR] KIND=FILE.html…

KIND is `validate`, `calibrate` or `devices` and says which sections must be there. Fails on a console
message, a fetched resource, a missing section, a plot without words, a clipped label, a page that
scrolls sideways, or a theme that does not change. Needs `chromium` and `chromedriver`; speaks
WebDriver itself, so no Python package is needed.
"""

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

SECTIONS = {
    "validate": "machine drift scatter errors coverage residuals roofline worst data".split(),
    "calibrate": "machine drift proof terms roofline made-of data".split(),
    "devices": (
        "held-out by-kind by-rows device-scatter device-coverage worst-devices left-out data"
    ).split(),
}
# Width, height and factor of the screens.
SCREENS = {"desk": (1280, 900, 1), "phone": (390, 844, 2)}
THEMES = ["light", "dark"]
# The last seven keep Chromium from looking for hosts of its own.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-quic",
    "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]

# Runs in the page and answers what is wrong with it, as sentences.
LOOK = r"""
const wrong = [];
const say = (text) => { if (wrong.length < 20) wrong.push(text); };
const fetched = performance.getEntriesByType('resource').map((entry) => entry.name);
if (fetched.length) say('fetched ' + fetched.join(', '));
for (const id of arguments[0]) {
  const section = document.getElementById(id);
  if (!section || section.tagName !== 'SECTION') { say('no section ' + id); continue; }
  if (!section.querySelector('h2')?.textContent.trim()) say(id + ' has no heading');
  if (section.getBoundingClientRect().height < 60) say(id + ' is empty');
}
const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
if (new Set(ids).size !== ids.length) say('an id is given twice');
for (const link of document.querySelectorAll('a')) {
  const href = link.getAttribute('href');
  if (!href.startsWith('#') || !document.getElementById(href.slice(1))) say('link to ' + href);
}
if (document.scripts.length) say('there is a script');
for (const folded of document.querySelectorAll('details')) folded.open = true;
const plots = [...document.querySelectorAll('svg.plot:not(.key)')];
if (plots.length < 4) say('only ' + plots.length + ' plots');
for (const plot of plots) {
  const words = plot.getAttribute('aria-labelledby').split(' ')
    .map((id) => document.getElementById(id)?.textContent.trim());
  const name = words[0] || 'a plot';
  if (plot.getAttribute('role') !== 'img' || words.length < 2 || words.some((w) => !w)) {
    say(name + ' has no words for those who cannot see it');
  }
  const frame = plot.viewBox.baseVal;
  const boxes = [...plot.querySelectorAll('text')].filter((t) => t.textContent.trim()).map((t) => {
    const box = t.getBBox();
    if (t.hasAttribute('transform')) return null;
    if (box.x < 0 || box.y < 0 || box.x + box.width > frame.width
        || box.y + box.height > frame.height) say(name + ': clipped `' + t.textContent.trim() + '`');
    return { ...{ x: box.x, y: box.y, w: box.width, h: box.height }, text: t.textContent.trim() };
  }).filter((box) => box);
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    const across = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
    const down = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
    if (across > 5 && down > 0.3 * a.h) say(name + ': `' + a.text + '` over `' + b.text + '`');
  }));
  if (!plot.closest('figure')?.querySelector('figcaption')) say(name + ' has no caption');
}
for (const table of document.querySelectorAll('table')) {
  if (!table.caption?.textContent.trim()) say('a table has no caption');
  if (!table.tHead || !table.tBodies[0]) say(table.caption?.textContent + ' has no head or body');
}
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) {
  say('the page scrolls sideways: ' + page.scrollWidth + ' > ' + page.clientWidth);
}
for (const folded of document.querySelectorAll('details')) folded.open = false;
return wrong;
"""

COLOURS = """
const mark = document.querySelector('svg.plot:not(.key) circle, svg.plot:not(.key) polygon');
const of = (element) => getComputedStyle(element);
return [of(document.body).backgroundColor, of(document.body).color, of(mark).fill + of(mark).stroke,
        of(document.querySelector('svg.plot text')).fill];
"""


class Browser:
    """A WebDriver session."""

    def __init__(self):
        for program in ("chromium", "chromedriver"):
            if not shutil.which(program):
                sys.exit(f"{program} is not installed (Debian: apt-get install {program.replace('driver', '-driver').replace('chrome-', 'chromium-')})")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.port = self._port()
        capabilities = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "binary": shutil.which("chromium"),
                "args": FLAGS + [f"--user-data-dir={self.profile.name}"],
            },
        }
        answer = self.call("POST", "", {"capabilities": {"alwaysMatch": capabilities}}, session="")
        self.session = "/" + answer["sessionId"]

    def _port(self):
        for line in self.driver.stdout:
            if "on port " in line and "started" in line:
                return int(line.rstrip(".\n").rsplit(" ", 1)[1])
        sys.exit("chromedriver did not start")

    def call(self, method, path, body=None, session=None):
        session = self.session if session is None else session
        url = f"http://127.0.0.1:{self.port}/session{session}{path}"
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            sys.exit(f"WebDriver {path}: {error.read().decode()[:500]}")

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def console(self):
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def screenshot(self):
        metrics = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": metrics["width"], "height": metrics["height"], "scale": 1}
        picture = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(picture["data"])

    def close(self):
        self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait(timeout=30)
        self.profile.cleanup()


def check(browser, kind, file, screenshots):
    """What is wrong with one report, as sentences."""
    wrong, colours, n_looks = [], {}, 0
    for screen, (width, height, factor) in SCREENS.items():
        for theme in THEMES:
            browser.devtools(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=height, deviceScaleFactor=factor, mobile=screen == "phone",
            )
            features = [{"name": "prefers-color-scheme", "value": theme}]
            browser.devtools("Emulation.setEmulatedMedia", features=features)
            browser.call("POST", "/url", {"url": file.resolve().as_uri()})
            time.sleep(0.2)
            place = f"{file.name}, {screen}, {theme}: "
            wrong += [place + text for text in browser.run(LOOK, SECTIONS[kind])]
            wrong += [place + "console: " + text for text in browser.console()]
            colours[theme] = browser.run(COLOURS)
            n_looks += 1
            if screenshots:
                picture = screenshots / f"{file.stem}-{screen}-{theme}.png"
                picture.write_bytes(browser.screenshot())
    for light, dark in zip(colours["light"], colours["dark"]):
        if light == dark:
            wrong.append(f"{file.name}: {light} in both themes")
    return n_looks, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--screenshots", type=Path, help="write pictures into this folder")
    parser.add_argument("reports", nargs="+", metavar="KIND=FILE")
    arguments = parser.parse_args()
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    n_looks, wrong = 0, []
    try:
        for report in arguments.reports:
            kind, _, file = report.partition("=")
            looks, found = check(browser, kind, Path(file), arguments.screenshots)
            n_looks += looks
            wrong += found
    finally:
        browser.close()
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{len(arguments.reports)} reports looked at {n_looks} times, {len(wrong)} complaints")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
