"""Canonical units and the only conversions.

W, TH/s, J/TH, Wh, °C and seconds are canonical. A name carries its unit (`power_w`); whatever a
vendor reports in another unit is converted in its driver, by a function of this file.
"""

W_PER_KW = 1_000
W_PER_MW = 1_000_000
THS_PER_PHS = 1_000
THS_PER_EHS = 1_000_000


def w_from_kw(kw: float) -> float:
    """Watts from kilowatts."""
    return kw * W_PER_KW


def mw_from_w(w: float) -> float:
    """Megawatts from watts, for people."""
    return w / W_PER_MW


def ths_from_ghs(ghs: float) -> float:
    """TH/s from GH/s, the unit of Antminer's `stats`."""
    return ghs / 1_000


def ths_from_mhs(mhs: float) -> float:
    """TH/s from MH/s, the unit of cgminer's `summary`."""
    return mhs / 1_000_000


def ehs_from_ths(ths: float) -> float:
    """EH/s from TH/s, for people."""
    return ths / THS_PER_EHS


def j_per_th(*, power_w: float, hashrate_ths: float) -> float | None:
    """Efficiency, or `None` where nothing hashes: an idle machine has no J/TH, not an infinite one."""
    return power_w / hashrate_ths if hashrate_ths > 0 else None
