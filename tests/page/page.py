#!/usr/bin/env python3
"""The page in a real Chromium: each page of the demo, live, followed, without JavaScript, at 360
pixels, dark and light, and without violations of accessibility that axe can find.

    pip install -r tests/requirements.txt        # and a chromium in PATH
    tests/page/page.py --binary target/debug/groundtrack [--screenshots FOLDER]
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

# No event takes so long unless it never comes.
PATIENCE_MS = 30_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PAGES = {
    "overview": "/",
    "topic": "/topic",
    "records": "/messages",
    "record": "/message?partition=0&offset=0",
    "refusal": "/message?partition=0&offset=99999999",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def demo(binary):
    """A demo of its own, ended as a user ends it."""
    with tempfile.TemporaryDirectory(prefix="groundtrack-page-") as folder:
        address = f"127.0.0.1:{free_port()}"
        command = [binary, "demo", "--dir", folder, "--listen", address]
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield f"http://{address}"
            finally:
                process.send_signal(signal.SIGINT)
                code = process.wait(timeout=60)
        print(pathlib.Path(f"{folder}/log").read_text()[-2000:] if code else "", end="")
        assert code == 0, f"the demo ended with {code}"


def wait_for_files(base):
    """Until the first file has landed: then each page has something to show."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"{base}/api/overview", timeout=5) as answer:
                if json.load(answer)["files"]:
                    return
        time.sleep(0.1)
    raise AssertionError("nothing has landed")


class Tests:
    def __init__(self, browser, base, screenshots):
        self.browser, self.base, self.screenshots = browser, base, screenshots

    @contextlib.contextmanager
    def page(self, **options):
        """A page whose scripts and policy are never violated."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" else None,
        )
        yield page
        context.close()
        wrong = [words for words in wrong if "status of 404" not in words]
        assert not wrong, wrong

    def shoot(self, page, name):
        if self.screenshots:
            page.screenshot(path=f"{self.screenshots}/{name}.png")

    def test_each_page_has_no_violation_that_axe_finds(self):
        for scheme in ("light", "dark"):
            with self.page(color_scheme=scheme) as page:
                for name, path in PAGES.items():
                    page.goto(self.base + path)
                    found = Axe().run(page).response["violations"]
                    words = [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]
                    assert not words, f"{name}, {scheme}: {words}"
                    self.shoot(page, f"{name}-{scheme}")

    def test_at_360_pixels_no_page_is_wider_than_the_screen(self):
        with self.page(viewport={"width": 360, "height": 740}) as page:
            for name, path in PAGES.items():
                page.goto(self.base + path)
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= 360, f"{name} is {width} wide"
                self.shoot(page, f"{name}-360")

    def test_without_javascript_each_page_is_whole(self):
        with self.page(java_script_enabled=False) as page:
            page.goto(self.base)
            expect(page.locator("#pipeline li")).to_have_count(7)
            expect(page.locator("#files tbody tr").first).to_contain_text("parquet_files/")
            expect(page.locator("#map .track")).to_have_count(1)
            page.get_by_role("link", name="Records").click()
            expect(page.locator("#records tr").first).to_contain_text("iss_position")
            page.get_by_label("Partition").fill("0")
            page.get_by_label("From offset").fill("1")
            page.get_by_label("At most").fill("1")
            page.get_by_role("button", name="Show").click()
            expect(page.locator("#records tr")).to_have_count(1)
            page.locator("#records a").click()
            expect(page.locator("h1")).to_contain_text("Record 0/1")
            expect(page.locator("#row")).to_contain_text("latitude")

    def test_the_overview_is_live(self):
        with self.page() as page:
            page.goto(self.base)
            expect(page.locator("#connection")).to_have_text("live")
            landed = page.locator("[data-live=landed]")
            place = page.locator("[data-live-transform]")
            before = landed.text_content(), place.get_attribute("transform")
            file = page.locator("#files tbody tr").first
            newest = file.text_content()
            expect(landed).not_to_have_text(before[0])
            expect(place).not_to_have_attribute("transform", before[1])
            # A section of another shape is fetched anew.
            expect(file).not_to_have_text(newest)

    def test_the_records_are_followed_and_paused(self):
        with self.page() as page:
            page.goto(self.base + "/messages?limit=1")
            rows = page.locator("#records tr")
            expect(rows).to_have_count(1)
            page.get_by_role("button", name="Follow").click()
            expect(rows).to_have_count(3)
            self.shoot(page, "followed")
            offsets = [int(text) for text in page.locator("#records a").all_text_contents()]
            assert offsets == sorted(offsets, reverse=True), offsets
            page.get_by_role("button", name="Pause").click()
            expect(page.locator("#tail span")).to_have_text(re.compile("^paused: "))
            page.get_by_role("button", name="Follow").wait_for()

    def test_a_text_is_searched_with_and_without_javascript(self):
        for scripts in (True, False):
            with self.page(java_script_enabled=scripts) as page:
                page.goto(self.base + "/messages")
                page.get_by_label("Only with this text").fill("nowhere to be found")
                page.get_by_role("button", name="Show").click()
                expect(page.locator("#records tr")).to_have_count(0)
                page.get_by_label("Only with this text").fill('"message": "success"')
                page.get_by_label("At most").fill("2")
                page.get_by_role("button", name="Show").click()
                expect(page.locator("#records tr")).to_have_count(2)
                if scripts:
                    expect(page.locator("#search span")).to_contain_text("hold it")

    def test_the_keyboard_reaches_the_content(self):
        with self.page() as page:
            page.goto(self.base)
            page.keyboard.press("Tab")
            expect(page.locator(":focus")).to_have_text("Skip to the content")
            page.keyboard.press("Enter")
            assert page.url.endswith("#main")

    def test_the_address_of_a_record_says_the_same_again(self):
        with self.page() as page:
            page.goto(self.base + "/messages")
            page.locator("#records a").last.click()
            address, row = page.url, page.locator("#row").text_content()
            page.goto(self.base)
            page.goto(address)
            expect(page.locator("#row")).to_have_text(row)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--screenshots")
    arguments = arguments.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "no chromium is installed"
    if arguments.screenshots:
        pathlib.Path(arguments.screenshots).mkdir(parents=True, exist_ok=True)
    failed = []
    with demo(arguments.binary) as base, sync_playwright() as playwright:
        wait_for_files(base)
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        tests = Tests(browser, base, arguments.screenshots)
        for name in sorted(name for name in dir(tests) if name.startswith("test_")):
            try:
                getattr(tests, name)()
                print(f"test {name[5:]} ... ok", flush=True)
            except Exception as error:  # Each test is told of, and the run fails.
                print(f"test {name[5:]} ... FAILED\n{error}", flush=True)
                failed.append(name)
        browser.close()
    return 1 if failed else 0


sys.exit(main())
