"""The table of reference records beside published figures, from records that are made up."""

import runpy
from pathlib import Path

import energylab
from energylab import published

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reference.py"


def test_ratio_and_order_are_printed(monkeypatch, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    table = published.load()
    own = table[table["task"] == "summarization"].assign(energy_j=lambda t: 2 * t["energy_j"])
    monkeypatch.setattr(published, "own_records", lambda folder: own)
    main()
    said = capsys.readouterr().out
    assert "facebook/bart-large-cnn" in said
    assert "pooled within tasks: 1.00" in said
    ratios = published.beside(energylab.rate(own))["ratio"]
    assert (ratios - 2).abs().max() < 1e-6


def test_without_records_it_says_so(monkeypatch, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    monkeypatch.setattr(published, "own_records", lambda folder: published.load().iloc[:0])
    main()
    assert "No record" in capsys.readouterr().out
