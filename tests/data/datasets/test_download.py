import hashlib
import logging
import socket

import numpy as np
import pytest

from molformer.data.datasets.dataset import RemoteFile
from molformer.data.datasets.download import download, place
from molformer.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def remote(server):
    server.files["/set.bin"] = CONTENT
    return RemoteFile("set.bin", (f"{server.address}/set.bin",), len(CONTENT), md5=MD5)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_checksum_and_is_not_fetched_twice(server, remote, tmp_path):
    calls = []
    path = download(remote, tmp_path / "new" / "folder", lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert files(path.parent) == ["set.bin", "set.bin.sha256"]
    assert path.with_name("set.bin.sha256").read_text() == f"{SHA256}  set.bin\n"
    assert download(remote, path.parent) == path
    assert server.ranges == [None]


def test_a_cut_connection_is_taken_up_where_it_ended(server, remote, tmp_path):
    server.cut_after = [1_000_000, 500_000]
    path = download(remote, tmp_path, pause=0)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_resumes_what_an_earlier_one_had_to_give_up(server, remote, tmp_path):
    server.cut_after = [1_000_000]
    with pytest.raises(InputError, match="cut at 1000000 of 3000000 bytes; try again to resume"):
        download(remote, tmp_path, attempts=1)
    assert files(tmp_path) == ["set.bin.part"]
    assert download(remote, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]


def test_a_server_without_ranges_begins_anew(server, remote, tmp_path):
    server.knows_ranges = False
    server.cut_after = [1_000_000]
    assert download(remote, tmp_path, pause=0).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length(server, remote, tmp_path):
    server.tells_length = False
    server.cut_after = [1_000_000]
    assert download(remote, tmp_path, pause=0).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]


def test_a_wrong_checksum_keeps_nothing(server, remote, tmp_path):
    server.files["/set.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(InputError, match=f"is not the published 'set.bin': its md5 is .*, expected {MD5}"):
        download(remote, tmp_path)
    assert files(tmp_path) == []


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, remote, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    assert download(remote, tmp_path, pause=0).read_bytes() == CONTENT


def test_a_part_that_is_whole_needs_no_network(server, remote, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert download(remote, tmp_path).read_bytes() == CONTENT
    assert server.ranges == []


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (503, 3)])
def test_what_the_server_refuses_is_one_line(server, remote, tmp_path, code, requests):
    server.files["/set.bin"] = code
    with pytest.raises(
        InputError, match=f"cannot download 'set.bin': {server.address}/set.bin answers {code}"
    ) as error:
        download(remote, tmp_path, attempts=3, pause=0)
    assert "\n" not in str(error.value)
    assert len(server.ranges) == requests
    assert files(tmp_path) == []


def test_the_next_address_is_asked_where_one_fails(server, tmp_path):
    server.files["/mirror"] = CONTENT
    remote = RemoteFile("set.bin", (f"{server.address}/gone", f"{server.address}/mirror"), md5=MD5)
    assert download(remote, tmp_path).read_bytes() == CONTENT


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/set.bin"
        with pytest.raises(InputError, match=r"cannot download 'set.bin': .*refused"):
            download(RemoteFile("set.bin", (address,)), tmp_path, attempts=2, pause=0)


def test_a_folder_that_cannot_be_made(remote, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        download(remote, tmp_path / "file" / "folder")


def test_without_a_published_checksum_it_is_recorded_with_a_warning(server, remote, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        download(RemoteFile("set.bin", remote.urls), tmp_path)
    assert SHA256 in caplog.text
    with pytest.raises(InputError, match=r"has 3000000 bytes, the published 'other.bin' has 5"):
        download(RemoteFile("other.bin", remote.urls, 5), tmp_path)


def test_a_file_that_is_there_already(remote, tmp_path):
    source = tmp_path / "downloads" / "mine.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    path = place(remote, source, tmp_path / "sets")
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == ["set.bin", "set.bin.sha256"]
    assert source.is_file()
    assert place(remote, path, path.parent) == path  # where it is already
    source.write_bytes(CONTENT[1:])
    with pytest.raises(InputError, match=r"mine.bin' is not the published"):
        place(remote, source, tmp_path / "others")
    with pytest.raises(InputError, match=r"cannot take .*No such file"):
        place(remote, tmp_path / "nothing", tmp_path)


def test_a_file_without_a_record_is_checked_before_it_is_believed(server, remote, tmp_path):
    (tmp_path / "set.bin").write_bytes(CONTENT)
    assert download(remote, tmp_path).read_bytes() == CONTENT
    (tmp_path / "set.bin.sha256").unlink()
    (tmp_path / "set.bin").write_bytes(b"other")
    with pytest.raises(InputError, match="fetch it again"):
        download(remote, tmp_path)
    assert server.ranges == []
