# ruff: noqa: D102, N802 - names are those of QGIS
"""What the dialogs show for a model: those that come with geoseg, or a file."""

from processing.gui.wrappers import WidgetWrapper
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

FILES = "Models (*.zip *.onnx);;All files (*)"


class ModelWrapper(WidgetWrapper):
    """A list whose text can be edited, and a button that looks for a file."""

    def createWidget(self, models=()):
        panel = QWidget()
        row = QHBoxLayout(panel)
        row.setContentsMargins(0, 0, 0, 0)
        self.box = QComboBox()
        self.box.setEditable(True)
        self.box.addItems(list(models))
        button = QToolButton()
        button.setText("…")
        button.setToolTip("A model of your own: a bundle or an ONNX file")
        button.clicked.connect(self.choose)
        self.box.editTextChanged.connect(lambda: self.widgetValueHasChanged.emit(self))
        row.addWidget(self.box, 1)
        row.addWidget(button)
        return panel

    def choose(self):
        path, _ = QFileDialog.getOpenFileName(self.widget, "Model", "", FILES)
        if path:
            self.setValue(path)

    def setValue(self, value):
        self.box.setEditText("" if value is None else str(value))

    def value(self):
        return self.box.currentText()
