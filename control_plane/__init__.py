"""gridplane: declare, plan and converge the hardware of companies that own power.

The layers, outermost first: `cli`, then `views`, then `engine`, then `drivers` and `inventory`,
then `api` and `core`. `simulator` stands beside them and pretends to be the hardware.
"""

__version__ = "0.1.0"
