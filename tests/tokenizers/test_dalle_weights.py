"""Where OpenAI's weights come from: a named file, the cache, or OpenAI's address."""

from __future__ import annotations

import threading
import time

import pytest
from dalle_files import V, decoder, encoder, imported, pickled

from ssl_core.api import BuildContext, CheckpointError
from ssl_tokenizers import dalle_weights
from ssl_tokenizers.dalle import DalleTokenizer
from ssl_tokenizers.options import DalleOptions


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Returns the folder of an empty cache. Nothing is at the address."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(dalle_weights, "ADDRESS", "http://127.0.0.1:9/")
    return tmp_path / "cache" / "ssl-vision"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Puts small files in the place of OpenAI's."""
    site = tmp_path / "site"
    site.mkdir()
    pickled(encoder(), site / "encoder.pkl", "zip")
    pickled(decoder(), site / "decoder.pkl", "zip")
    monkeypatch.setattr(dalle_weights, "ADDRESS", f"{site.as_uri()}/")
    return site


def test_a_named_file_goes_before_the_cache(cache, tmp_path):
    file = imported(tmp_path)
    assert dalle_weights.find_weights(file) == file
    assert not cache.exists()


def test_without_a_network_one_line_says_what_to_do(cache):
    with pytest.raises(CheckpointError) as caught:
        DalleTokenizer(DalleOptions(), BuildContext())
    message = str(caught.value)
    assert "\n" not in message
    assert "Connection refused" in message
    assert f"ssl-tokenizer import encoder.pkl decoder.pkl --out {cache / 'dalle.safetensors'}" in message
    assert [path.name for path in cache.iterdir()] == [".dalle.lock"]


def test_what_is_missing_is_fetched_once(cache, published):
    part = DalleTokenizer(DalleOptions(), BuildContext())
    assert part.vocab_size == V
    assert part.can_decode
    assert {path.name for path in cache.iterdir()} == {".dalle.lock", "dalle.json", "dalle.safetensors"}
    for file in published.iterdir():
        file.unlink()
    assert DalleTokenizer(DalleOptions(), BuildContext()).vocab_size == V


def test_a_page_in_the_place_of_the_file_is_not_kept(cache, published):
    (published / "encoder.pkl").write_text("<html>log in first</html>")
    with pytest.raises(CheckpointError, match=r"could not be fetched \(.*not a pickled module"):
        dalle_weights.find_weights(None)
    assert [path.name for path in cache.iterdir()] == [".dalle.lock"]


def test_of_several_processes_one_fetches(cache, published, monkeypatch):
    fetched = []
    download = dalle_weights.download

    def slow(url, *rest):
        fetched.append(url)
        time.sleep(0.05)
        download(url, *rest)

    monkeypatch.setattr(dalle_weights, "download", slow)
    found = []
    # Each holds the lock file open by itself, as a process would.
    threads = [threading.Thread(target=lambda: found.append(dalle_weights.find_weights(None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "dalle.safetensors"] * 3
    assert [url.rpartition("/")[2] for url in fetched] == ["encoder.pkl", "decoder.pkl"]


def test_a_cache_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="Not a directory"):
        dalle_weights.find_weights(None)
