"""The page, in a real browser that has no network but the server."""

import shutil
from itertools import pairwise

import pytest

from tests.serving.conftest import WATER

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, client):
    """A page whose every request to elsewhere, script error and breach of the policy is a failure."""
    page = browser.new_page()
    wrong = []
    page.on("request", lambda request: request.url.startswith(str(client.base_url)) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.set_default_timeout(60_000)
    page.goto(str(client.base_url))
    yield page
    page.close()
    assert [what for what in wrong if not what.startswith(("data:", "blob:"))] == []


def picture(page):
    """The picture of the molecule, as the address of its data."""
    return page.eval_on_selector("#view", "canvas => canvas.toDataURL()")


def cells(page):
    return [row.locator("td").all_inner_texts() for row in page.locator("#rows tr").all()]


def test_molecules_are_predicted_shown_coloured_and_downloaded(page, client):
    empty = picture(page)
    page.fill("#molecules", "CCO\nC1CC\n\nCBr")
    page.fill("#unit", "meV")
    page.click("#predict")
    page.wait_for_selector("#rows tr")
    answer = client.post("/predict", json={"molecules": ["CCO"], "unit": "meV"}).json()["rows"][0]
    rows = cells(page)
    assert [row[0] for row in rows] == ["CCO", "C1CC", "CBr"]
    assert rows[0][1] == "C2H6O"
    assert float(rows[0][2].split()[0]) == pytest.approx(answer["values"]["gap"]["value"], abs=0.01)
    assert rows[0][-1] == "ok"
    assert rows[1][-1].startswith("invalid_input")
    assert "ring closures" in rows[1][-1]
    assert rows[2][-1].startswith("unsupported_element")
    assert page.locator("#head th").all_inner_texts()[2:5] == ["gap (meV)", "energy (meV)", "|dipole| (D)"]
    assert page.inner_text("#summary") == "3 molecules, 1 ok"

    page.wait_for_selector("#colours option:nth-child(5)", state="attached")
    options = page.locator("#colours option").all_inner_texts()
    assert options == ["element", "attention", "gap", "energy", "charges"]
    pictures = [empty, picture(page)]
    for way in ("attention", "charges"):
        page.select_option("#colours", way)
        pictures.append(picture(page))
    page.focus("#view")
    page.keyboard.press("ArrowRight")
    pictures.append(picture(page))
    assert all(before != after for before, after in pairwise(pictures))
    assert page.inner_text("#legend").endswith(" e")
    page.hover("#view", position={"x": 240, "y": 200})

    with page.expect_download() as download:
        page.click("#download")
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("input,formula,status,message,gap (meV),")
    assert float(lines[1].split(",")[4]) == pytest.approx(answer["values"]["gap"]["value"], rel=1e-4)


def test_a_file_and_the_text_of_one(page):
    page.set_input_files("#file", {"name": "two.xyz", "mimeType": "", "buffer": (WATER + WATER).encode()})
    page.wait_for_selector("#rows tr:nth-child(2)")
    assert [row[1] for row in cells(page)] == ["H2O", "H2O"]
    page.fill("#molecules", WATER)
    page.click("#predict")
    page.wait_for_selector("#rows tr:nth-child(2)", state="detached")
    assert [row[:2] for row in cells(page)] == [["H2O", "H2O"]]


def test_a_name_is_text_and_no_markup(page):
    page.fill("#molecules", "<img src=x onerror=alert(1)>")
    page.click("#predict")
    page.wait_for_selector("#rows tr")
    assert cells(page)[0][0] == "<img src=x onerror=alert(1)>"
    assert page.locator("#rows img").count() == 0


def test_the_description_of_the_api_opens(page, client):
    page.goto(str(client.base_url.join("/docs")))
    page.wait_for_selector(".opblock-post")
    assert "/predict/file" in page.inner_text("#api")
