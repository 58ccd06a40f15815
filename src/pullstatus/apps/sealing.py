"""Keys are stored sealed: AES-256-GCM under a master key that is nowhere in the store. Pure.

    sealed = nonce of 12 random bytes | ciphertext | tag of 16 bytes

What is sealed is bound to its place: to the application and the key's id, or to the pair's, or to
the token and the key's id; and to the master key. So one that was put elsewhere in a file does not
open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pullstatus.apps.operator import RandomHex
from pullstatus.apps.values import AppKey, Application, SecretPair, SignatureKey, Token
from pullstatus.errors import MasterKeyMissing, StoreCorrupt

MASTER_KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 8
END_CHARS = 4  # of an appkey, kept readable to tell it by


class MasterKey(msgspec.Struct, frozen=True):
    """What appkeys and secret keys are sealed under.

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
        sealing: the one that is sealed under from now on.
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
        opened = self.open(sdkappid, key)
        return msgspec.structs.replace(
            key,
            appkey="",
            id=key_id,
            end=opened[-END_CHARS:],
            sealed=self._encrypt(opened, _place(sdkappid, key_id), random_hex),
            master=self.sealing.id,
        )

    def seal_pair(self, pair: SecretPair, random_hex: RandomHex) -> SecretPair:
        """A secret key pair, sealed under `sealing`; one that cannot be opened stays as it is."""
        if not self.reseals(pair):
            return pair
        sealed = self._encrypt(self.open_pair(pair), _place_of_pair(pair), random_hex)
        return msgspec.structs.replace(pair, secret_key="", sealed=sealed, master=self.sealing.id)

    def seal_token(self, token: Token, random_hex: RandomHex) -> Token:
        """A token with its signature key sealed under `sealing`, if it has one that can be."""
        key = token.signature
        if key is None or not self.reseals(key):
            return token
        sealed = self._encrypt(self.open_token(token), _place_of_token(token, key), random_hex)
        key = msgspec.structs.replace(key, key="", sealed=sealed, master=self.sealing.id)
        return msgspec.structs.replace(token, signature=key)

    def reseals(self, key: AppKey | SecretPair | SignatureKey) -> bool:
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

    def check(self, holder: Application | SecretPair | Token) -> None:
        """Prove that what is sealed under a key at hand opens.

        Raises:
            StoreCorrupt: something was not sealed for its place.
        """
        if isinstance(holder, SecretPair):
            if holder.master in self:
                self.open_pair(holder)
            return
        if isinstance(holder, Token):
            if holder.signature is not None and holder.signature.master in self:
                self.open_token(holder)
            return
        for key in holder.appkeys:
            if key.master in self:
                self.open(holder.sdkappid, key)

    def open(self, sdkappid: int, key: AppKey) -> str:
        """The digits of an application's key, sealed or not.

        Raises:
            MasterKeyMissing: it is sealed under one that is not at hand.
            StoreCorrupt: this was not sealed for this place.
        """
        if not key.master:
            return key.appkey
        try:
            return self._decrypt(key, _place(sdkappid, key.id))
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt(
                f"an appkey of application {sdkappid} is not what was sealed for it;"
                f" give it another with `pullstatus app rotate-key {sdkappid} --drop-old`, or"
                " restore a backup"
            ) from error

    def open_pair(self, pair: SecretPair) -> str:
        """The SecretKey of a pair, sealed or not.

        Raises:
            MasterKeyMissing, StoreCorrupt: as by `open`.
        """
        if not pair.master:
            return pair.secret_key
        try:
            return self._decrypt(pair, _place_of_pair(pair))
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt(
                f"the secret key of {pair.id} is not what was sealed for it; revoke it with"
                f" `pullstatus secret revoke {pair.id}` and make another, or restore a backup"
            ) from error

    def open_token(self, token: Token) -> str:
        """What requests under a token are signed with, sealed or not; "" if they need not be.

        Raises:
            MasterKeyMissing, StoreCorrupt: as by `open`.
        """
        key = token.signature
        if key is None or not key.master:
            return "" if key is None else key.key
        try:
            return self._decrypt(key, _place_of_token(token, key))
        except (InvalidTag, ValueError) as error:
            raise StoreCorrupt(
                f"the signature key of token {token.name} is not what was sealed for it; give it"
                f" again with `pullstatus token set {token.name} --signature-key-file FILE`, or"
                " restore a backup"
            ) from error

    def _encrypt(self, opened: str, place: str, random_hex: RandomHex) -> bytes:
        nonce = bytes.fromhex(random_hex(NONCE_BYTES))
        bound = f"{place} {self.sealing.id}".encode()
        return nonce + AESGCM(self.sealing.secret).encrypt(nonce, opened.encode(), bound)

    def _decrypt(self, key: AppKey | SecretPair | SignatureKey, place: str) -> str:
        secret = self.master(key.master).secret
        nonce, sealed = key.sealed[:NONCE_BYTES], key.sealed[NONCE_BYTES:]
        return AESGCM(secret).decrypt(nonce, sealed, f"{place} {key.master}".encode()).decode()


def master_key_missing(master_id: str, place: str) -> MasterKeyMissing:
    """What is said when a master key is not at hand: which one, and how to give it."""
    return MasterKeyMissing(
        f"appkeys of this store are sealed under master key {master_id}, which is not in {place}:"
        " put it there as a line of its own, or say where it is with --master-key-file or"
        " --master-key-command"
    )


def _place(sdkappid: int, key_id: str) -> str:
    return f"pullstatus appkey {sdkappid} {key_id}"


def _place_of_token(token: Token, key: SignatureKey) -> str:
    return f"pullstatus signature key {token.digest} {key.id}"


def _place_of_pair(pair: SecretPair) -> str:
    return f"pullstatus secret key {pair.id} {pair.key_id}"
