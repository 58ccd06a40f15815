"""Appkeys are stored sealed: AES-256-GCM under a master key that is nowhere in the store. Pure.

    sealed = nonce of 12 random bytes | ciphertext | tag of 16 bytes

What is sealed is bound to its place: to the application, to the key's id and to the master key. So
one that was put elsewhere in a file does not open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pullstatus.apps.operator import RandomHex
from pullstatus.apps.values import AppKey, Application
from pullstatus.errors import MasterKeyMissing, StoreCorrupt

MASTER_KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 8
END_CHARS = 4  # of an appkey, kept readable to tell it by


class MasterKey(msgspec.Struct, frozen=True):
    """What appkeys are sealed under.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes

    @property
    def id(self) -> str:
        """Its name, which tells nothing of it: 16 hex digits."""
        return hashlib.sha256(b"pullstatus master key" + self.secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"


class Keyring:
    """Master keys at hand: what one of them has sealed can be opened.

    Attributes:
        sealing: the one that appkeys are sealed under from now on.
        place: where they are from, for people.
    """

    def __init__(
        self, masters: Sequence[MasterKey], place: str, sealing: str | None = None
    ) -> None:
        """Take over keys.

        Args:
            masters: at least one; that of `sealing` among them.
            place: where they are from.
            sealing: id of the one to seal under; None: the first.

        Raises:
            MasterKeyMissing: none of them has that id.
        """
        self.place = place
        self._masters = {master.id: master for master in masters}
        self.sealing = self.master(masters[0].id if sealing is None else sealing)

    def __contains__(self, master_id: str) -> bool:
        return master_id in self._masters

    def master(self, master_id: str) -> MasterKey:
        """The key with this id.

        Raises:
            MasterKeyMissing: it is not at hand.
        """
        if master_id not in self._masters:
            raise master_key_missing(master_id, self.place)
        return self._masters[master_id]

    def seal(self, sdkappid: int, key: AppKey, random_hex: RandomHex) -> AppKey:
        """A key of an application, sealed; it gets an id if it has none."""
        key_id = key.id or random_hex(KEY_ID_BYTES)
        nonce = bytes.fromhex(random_hex(NONCE_BYTES))
        opened = self.open(sdkappid, key)
        bound = _bound(sdkappid, key_id, self.sealing.id)
        sealed = nonce + AESGCM(self.sealing.secret).encrypt(nonce, opened.encode(), bound)
        return msgspec.structs.replace(
            key,
            appkey="",
            id=key_id,
            end=opened[-END_CHARS:],
            sealed=sealed,
            master=self.sealing.id,
        )

    def reseals(self, key: AppKey) -> bool:
        """Whether a key is not under `sealing` yet, and can be brought there."""
        return key.master != self.sealing.id and (not key.master or key.master in self)

    def seal_all(self, application: Application, random_hex: RandomHex) -> Application:
        """An application with its keys sealed under `sealing`; those stay that cannot be opened."""
        sdkappid = application.sdkappid
        appkeys = tuple(
            self.seal(sdkappid, key, random_hex) if self.reseals(key) else key
            for key in application.appkeys
        )
        return msgspec.structs.replace(application, appkeys=appkeys)

    def open(self, sdkappid: int, key: AppKey) -> str:
        """The digits of an application's key, sealed or not.

        Raises:
            MasterKeyMissing: it is sealed under one that is not at hand.
            StoreCorrupt: this was not sealed for this place.
        """
        if not key.master:
            return key.appkey
        secret = self.master(key.master).secret
        nonce, sealed = key.sealed[:NONCE_BYTES], key.sealed[NONCE_BYTES:]
        try:
            return (
                AESGCM(secret).decrypt(nonce, sealed, _bound(sdkappid, key.id, key.master)).decode()
            )
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt(
                f"an appkey of application {sdkappid} is not what was sealed for it;"
                f" give it another with `pullstatus app rotate-key {sdkappid}`, or restore a backup"
            ) from error


def master_key_missing(master_id: str, place: str) -> MasterKeyMissing:
    """What is said when a master key is not at hand: which one, and how to give it."""
    return MasterKeyMissing(
        f"appkeys of this store are sealed under master key {master_id}, which is not in {place}:"
        " put it there as a line of its own, or say where it is with --master-key-file or"
        " --master-key-command"
    )


def _bound(sdkappid: int, key_id: str, master_id: str) -> bytes:
    return f"pullstatus appkey {sdkappid} {key_id} {master_id}".encode()
