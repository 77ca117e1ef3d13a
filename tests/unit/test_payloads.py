"""Keys of payloads, and what is encrypted with them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from missing_module import output_without
from structlog.testing import capture_logs
from temporalio.api.common.v1 import Payload
from temporalio.converter import DefaultFailureConverterWithEncodedAttributes

from temporal_fleet.errors import DecryptionError, SettingsError
from temporal_fleet.payloads import data_converter
from temporal_fleet.payloads.encryption import EncryptionCodec
from temporal_fleet.payloads.keys import KeyRing
from temporal_fleet.settings import CodecSettings

PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"4111 1111 1111 1111"')


def write_key(directory: Path, name: str, content: str | None = None) -> Path:
    """Write one key file, as `openssl rand -base64 32` would make it unless told otherwise."""
    directory.mkdir(exist_ok=True)
    made = base64.b64encode(os.urandom(32)).decode() + "\n"
    (directory / name).write_text(made if content is None else content)
    return directory


def codec(directory: Path, encryption_key: str | None = None, **options: int) -> EncryptionCodec:
    """Return a codec with the keys of a directory as they are now."""
    return EncryptionCodec(KeyRing(directory), encryption_key, **options)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with the keys ``old`` and ``new``."""
    write_key(tmp_path / "keys", "old")
    return write_key(tmp_path / "keys", "new")


async def test_encryption_round_trip_hides_data_and_encoding(keys: Path) -> None:
    """What is encrypted shows neither its data nor its encoding, and comes back as it was."""
    (sealed,) = await codec(keys, "new").encode([PLAIN])

    assert sealed.metadata["encoding"] == b"binary/encrypted"
    assert sealed.metadata["encryption-key-id"] == b"new"
    assert b"4111" not in sealed.SerializeToString()
    assert b"json" not in sealed.SerializeToString()
    assert await codec(keys).decode([sealed]) == [PLAIN]


async def test_encryption_same_payload_never_looks_the_same(keys: Path) -> None:
    """Equal payloads cannot be told by being equal."""
    sealed = await codec(keys, "new").encode([PLAIN] * 50)

    assert len({each.data for each in sealed}) == 50


@pytest.mark.parametrize("size", [0, 1, 2_000_000])
async def test_encryption_any_size_comes_back(keys: Path, size: int) -> None:
    """Payloads of no bytes, one byte and the server's limit come back as they were."""
    payload = Payload(metadata={"encoding": b"binary/plain"}, data=os.urandom(size))
    both = codec(keys, "new")

    assert await both.decode(await both.encode([payload])) == [payload]


async def test_encryption_data_key_is_renewed(keys: Path) -> None:
    """A data key encrypts no more payloads than it may; all of them stay readable."""
    both = codec(keys, "new", payloads_per_data_key=2)
    sealed = await both.encode([PLAIN] * 5)

    assert len({each.metadata["encryption-data-key"] for each in sealed}) == 3
    assert await codec(keys).decode(sealed) == [PLAIN] * 5


async def test_encryption_rotated_key_still_decrypts(keys: Path) -> None:
    """After another key encrypts, what the old one encrypted can still be read, in one call with the new."""
    before = await codec(keys, "old").encode([PLAIN])
    rotated = codec(keys, "new")

    assert await rotated.decode(before + await rotated.encode([PLAIN])) == [PLAIN, PLAIN]


async def test_decryption_plain_payloads_pass(keys: Path) -> None:
    """Payloads from before encryption, and of those who do not encrypt, are read as they are."""
    assert await codec(keys, "new").decode([PLAIN]) == [PLAIN]
    assert await codec(keys).encode([PLAIN]) == [PLAIN]


async def test_decryption_key_added_later_is_found(keys: Path) -> None:
    """A key that is added while the process runs is found, and logged by its ID."""
    reader = codec(keys)
    write_key(keys, "later")
    sealed = await codec(keys, "later").encode([PLAIN])
    with capture_logs() as logs:
        assert await reader.decode(sealed * 2) == [PLAIN, PLAIN]

    assert [(line["event"], line["key_ids"]) for line in logs] == [
        ("payload keys added", ["later"])
    ]


async def test_decryption_key_in_use_stays_what_it_was(keys: Path) -> None:
    """A key that is replaced on the disk by mistake goes on as it was in the processes that run."""
    sealed = await codec(keys, "old").encode([PLAIN])
    reader = codec(keys)
    write_key(keys, "old")
    write_key(keys, "later")
    assert await reader.decode(await codec(keys, "later").encode([PLAIN])) == [PLAIN]

    assert await reader.decode(sealed) == [PLAIN]


async def test_decryption_remembers_a_bounded_number_of_data_keys(keys: Path) -> None:
    """However many processes encrypted, memory stays bounded and every payload readable."""
    sealed = await codec(keys, "old", payloads_per_data_key=1).encode([PLAIN] * 1100)
    reader = codec(keys)

    assert await reader.decode(sealed * 2) == [PLAIN] * 2200
    assert len(reader._ciphers) == 1000


async def test_decryption_bad_file_beside_an_added_key_is_named(keys: Path) -> None:
    """A file that holds no key does not keep another new key from being found."""
    reader = codec(keys)
    write_key(keys, "later")
    sealed = await codec(keys, "later").encode([PLAIN])
    write_key(keys, "broken", "not a key!")
    with capture_logs() as logs:
        assert await reader.decode(sealed) == [PLAIN]

    assert "broken is not base64" in logs[0]["problem"]
    assert "not a key" not in str(logs)


async def test_decryption_missing_key_is_named(keys: Path) -> None:
    """A payload whose key is not there says which one, where it was looked for, and what to do."""
    sealed = await codec(keys, "old").encode([PLAIN])
    (keys / "old").unlink()
    with pytest.raises(DecryptionError) as caught:
        await codec(keys).decode(sealed)

    assert str(caught.value) == (
        f"a payload is encrypted with key 'old', which is not in {keys} (there: new). "
        "Add it there; it is found without a restart"
    )


async def test_decryption_replaced_key_is_told(keys: Path) -> None:
    """Another key under the same ID is told apart from a damaged payload."""
    sealed = await codec(keys, "old").encode([PLAIN])
    write_key(keys, "old")
    with pytest.raises(DecryptionError, match=r"with another key 'old' .* under another ID"):
        await codec(keys).decode(sealed)


@pytest.mark.parametrize("data", [b"", b"short", None], ids=["empty", "cut-off", "changed"])
async def test_decryption_damaged_payload_is_refused(keys: Path, data: bytes | None) -> None:
    """A payload that was changed or cut off is never taken for the real one."""
    (sealed,) = await codec(keys, "old").encode([PLAIN])
    sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1]) if data is None else data
    with pytest.raises(DecryptionError, match="key 'old' was changed or cut off"):
        await codec(keys).decode([sealed])


@pytest.mark.parametrize("wrapped", [b"", b"0" * 39, b"0" * 40])
async def test_decryption_damaged_data_key_is_refused(keys: Path, wrapped: bytes) -> None:
    """A data key that was changed or cut off does not decrypt."""
    (sealed,) = await codec(keys, "old").encode([PLAIN])
    sealed.metadata["encryption-data-key"] = wrapped
    with pytest.raises(DecryptionError, match="'old'"):
        await codec(keys).decode([sealed])


async def test_decryption_payload_of_another_codec_is_told(keys: Path) -> None:
    """A payload that another codec encrypted under the usual name is not mistaken for ours."""
    foreign = Payload(
        metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"test"}, data=b"x" * 60
    )
    with pytest.raises(DecryptionError, match="'test', but not by temporal-fleet"):
        await codec(keys).decode([foreign])


def test_keys_mounted_by_kubernetes_are_read(tmp_path: Path) -> None:
    """Keys are links into a folder; what begins with a dot, and other folders, are no keys."""
    versions = write_key(tmp_path / "..2026_11_26", "2026-11")
    (tmp_path / "..data").symlink_to(versions)
    (tmp_path / "2026-11").symlink_to("..data/2026-11")
    (tmp_path / ".hidden").write_text("no key")
    (tmp_path / "lost+found").mkdir()

    assert KeyRing(tmp_path).ids == ["2026-11"]


def test_keys_every_problem_is_named_without_content(tmp_path: Path) -> None:
    """All files that hold no key are named at once, and nothing of what they hold is shown."""
    write_key(tmp_path, "a", "sesame open!")
    write_key(tmp_path, "b", base64.b64encode(b"c2hvcnQ=").decode())
    write_key(tmp_path, "c", "")
    write_key(tmp_path, "d", base64.b64encode(os.urandom(32)).decode() + "!")
    write_key(tmp_path, "good")
    with pytest.raises(SettingsError) as caught:
        KeyRing(tmp_path)

    cure = (
        ". A key is 32 random bytes in base64, such as `openssl rand -base64 32` makes; "
        "the name of its file is its ID"
    )
    assert [str(problem) for problem in caught.value.problems] == [
        f"FLEET_CODEC_KEYS_DIRECTORY: {tmp_path}/a is not base64{cure}",
        f"FLEET_CODEC_KEYS_DIRECTORY: the key in {tmp_path}/b has 8 bytes{cure}",
        f"FLEET_CODEC_KEYS_DIRECTORY: the key in {tmp_path}/c has 0 bytes{cure}",
        f"FLEET_CODEC_KEYS_DIRECTORY: {tmp_path}/d is not base64{cure}",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere cannot be read: No such file or directory"),
        ("empty", "there is no key in .*/empty"),
        ("file", "file cannot be read: Not a directory"),
    ],
)
def test_keys_directory_without_keys_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """A directory that is missing, empty or a file is a settings error: nothing is sent in clear by mistake."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=message):
        KeyRing(tmp_path / name)


def test_converter_encryption_key_not_there_is_refused(keys: Path) -> None:
    """The key that shall encrypt must be one of those that are there."""
    with pytest.raises(SettingsError) as caught:
        data_converter(CodecSettings(keys_directory=keys, encryption_key_id="next"))

    assert [str(problem) for problem in caught.value.problems] == [
        f"FLEET_CODEC_ENCRYPTION_KEY_ID: is next, but {keys} holds only new, old. "
        "Add the key there first, and give it time to reach every worker."
    ]


def test_converter_without_keys_imports_no_cryptography() -> None:
    """Who encrypts nothing pays nothing for it."""
    code = (
        "import sys; from temporal_fleet.payloads import data_converter\n"
        "from temporal_fleet.settings import CodecSettings\n"
        "data_converter(CodecSettings())\n"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_converter_without_keys_says_that_a_payload_is_encrypted(keys: Path) -> None:
    """Who has no keys is told which one is missing; plain payloads are read and written as ever."""
    sealed = await codec(keys, "new").encode([PLAIN])
    plain = data_converter(CodecSettings())
    with pytest.raises(DecryptionError, match="with key 'new', and no keys are given"):
        await plain.decode(sealed)

    written = await plain.encode([Path("/tmp"), None, b"x"])
    assert [payload.metadata["encoding"] for payload in written] == [
        b"json/plain",
        b"binary/null",
        b"binary/plain",
    ]
    assert await plain.decode(written, [Path, type(None), bytes]) == [Path("/tmp"), None, b"x"]


def test_converter_failures_are_encrypted_only_while_a_key_encrypts(keys: Path) -> None:
    """While payloads are only decrypted, failures stay readable for those who cannot decrypt yet."""
    encrypting = data_converter(CodecSettings(keys_directory=keys, encryption_key_id="new"))
    decrypting = data_converter(CodecSettings(keys_directory=keys))
    encoded = DefaultFailureConverterWithEncodedAttributes

    assert encrypting.failure_converter_class is encoded
    assert decrypting.failure_converter_class is not encoded
    assert decrypting.payload_codec is not None


WITHOUT_CRYPTOGRAPHY = """
from pathlib import Path
from temporal_fleet.errors import SettingsError
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import CodecSettings

try:
    data_converter(CodecSettings(keys_directory=Path("/keys")))
except SettingsError as error:
    print(error)
"""


def test_converter_without_cryptography_names_the_extra() -> None:
    """Keys without the package are a settings error that says what to install."""
    printed = output_without("cryptography", WITHOUT_CRYPTOGRAPHY)

    assert printed == (
        "settings: 1 problem\n"
        "  - FLEET_CODEC_KEYS_DIRECTORY: is /keys, but the package cryptography is not installed. "
        "Run `pip install temporal-fleet[encryption]`; images have it with EXTRAS=encryption.\n"
    )
