"""Loads a page in a headless Chromium (QtWebEngine), runs a script in it, prints its result.

python browser.py PAGE WIDTH HEIGHT SCRIPT [SCREENSHOT]
"""

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

page, width, height, script = sys.argv[1:5]
app = QApplication(sys.argv)
view = QWebEngineView()
view.resize(int(width), int(height))


def end(result: object) -> None:
    print("RESULT", result)
    QTimer.singleShot(500, close)


def close() -> None:
    if len(sys.argv) > 5:
        view.grab().save(sys.argv[5])
    app.quit()


def loaded(ok: bool) -> None:
    QTimer.singleShot(1000, lambda: view.page().runJavaScript(script, end))


view.loadFinished.connect(loaded)
view.load(QUrl.fromLocalFile(os.path.abspath(page)))
view.show()
QTimer.singleShot(60000, app.quit)
app.exec()
