"""Refused logins of BMCs, kept in the Store: a leader that is new does not send what was refused before."""

from __future__ import annotations

import msgspec

from control_plane.core.bmc_quirks import is_factory_login
from control_plane.core.ports import BmcTarget, Clock
from control_plane.core.refused_login import BmcLogin, RefusedLogin, is_same_login, mark_of
from control_plane.core.remedy_kept import NodeKept
from control_plane.engine.store import Store


class Logins:
    """Those of one tenure."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Nothing is read before a target is known."""
        self._store, self._clock = store, clock

    def known(self, target: BmcTarget) -> BmcTarget:
        """A target, with what is remembered of its credential."""
        login = self._of(target.asset)
        if login is None:
            return target
        is_refused = login.refused is not None and is_same_login(
            login.refused, address=target.address, user=target.user, password=target.password
        )
        return msgspec.structs.replace(target, is_refused=is_refused, tries=login.tries)

    def refused(self, target: BmcTarget) -> None:
        """A BMC refused a credential; one that is known to be, or its maker's default, was not even sent."""
        if target.is_refused or is_factory_login(target.user, target.password):
            return
        mark = mark_of(address=target.address, user=target.user, password=target.password)
        refused = RefusedLogin(
            address=target.address, user=target.user, mark=mark, at_s=self._clock.wall_s()
        )
        self._keep(target.asset, refused)

    def taken(self, target: BmcTarget) -> None:
        """A BMC let somebody in: what it refused before was another credential, or another BMC."""
        login = self._of(target.asset)
        if login is not None and login.refused is not None:
            self._keep(target.asset, None)

    def _of(self, asset: str) -> BmcLogin | None:
        kept = self._store.remedy(asset)
        return None if kept is None else kept.login

    def _keep(self, asset: str, refused: RefusedLogin | None) -> None:
        kept = self._store.remedy(asset) or NodeKept(asset=asset)
        login = msgspec.structs.replace(kept.login or BmcLogin(), refused=refused)
        self._store.put_remedies([msgspec.structs.replace(kept, login=login)])
