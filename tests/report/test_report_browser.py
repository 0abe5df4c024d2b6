"""The HTML page in a real browser: tables are sorted, figures are seen. `pytest tests/report/test_report_browser.py`

Skipped where there is no Chromium; Debian and Ubuntu have it: apt-get install chromium.
"""

import html
import json
import re
import shutil
import subprocess

import pytest

from nmbench.report.write import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: stands at the end of the page: does what a reader does, and leaves what it saw in the document
VISIT = """
<script>
const refused = [];
document.addEventListener("securitypolicyviolation", (event) => refused.push(event.blockedURI));
addEventListener("load", () => {
  const table = document.getElementById("table-classification-resnet20-quick-quality");
  const heads = Array.from(table.tHead.rows[0].cells);
  const column = (title) => heads.findIndex((head) => head.textContent.startsWith(title));
  const read = (title) => Array.from(table.tBodies[0].rows, (row) => row.cells[column(title)].textContent);
  const click = (title) => heads[column(title)].querySelector("button").click();
  const seen = { before: read("top1") };
  click("top1"); seen.up = read("top1"); seen.sorted = heads[column("top1")].getAttribute("aria-sort");
  click("top1"); seen.down = read("top1"); seen.turned = heads[column("top1")].getAttribute("aria-sort");
  click("Method"); seen.methods = read("Method");
  seen.marks = heads.filter((head) => head.hasAttribute("aria-sort")).length;
  heads[0].querySelector("button").focus();
  seen.focus = document.activeElement === heads[0].querySelector("button");
  seen.figures = Array.from(document.images, (image) => [image.alt, image.naturalWidth, image.complete]);
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.refused = refused;
  seen.sortable = document.querySelectorAll("table.sortable th button").length;
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
});
</script>
</body>
"""


def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here ({', '.join(BROWSERS)}): apt-get install chromium")
    return found


@pytest.fixture(params=[1280, 500])
def seen(request, small, tmp_path):
    """What a visitor of the page saw, at a desktop's width and at about a phone's."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    write_report(small.folder, tmp_path / "out", "Quick matrix", ["html"])
    page = tmp_path / "visited.html"
    page.write_text((tmp_path / "out" / "report.html").read_text().replace("</body>", VISIT), encoding="utf-8")
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={request.param},900"]
    command += ["--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.timeout(180)
def test_a_visitor_sorts_a_table_and_sees_the_figures(seen):
    assert [text.split("\N{NO-BREAK SPACE}")[0] for text in seen["before"]] == ["84.00", "83.70", "80.87", "74.50", "-"]
    # by the number, and what is no number stays last either way
    assert [text[:5] for text in seen["up"]] == ["74.50", "80.87", "83.70", "84.00", "-"]
    assert [text[:5] for text in seen["down"]] == ["84.00", "83.70", "80.87", "74.50", "-"]
    assert (seen["sorted"], seen["turned"], seen["marks"]) == ("ascending", "descending", 1)
    assert seen["methods"] == ["asp", "dense", "sr-ste", "ste", "ste"]
    assert seen["focus"]
    assert seen["sortable"] > 20
    assert len(seen["figures"]) >= 6
    assert all(width > 100 and complete for _, width, complete in seen["figures"])
    assert seen["refused"] == []
    # tables scroll in themselves, never the page
    assert seen["wide"] <= 0
