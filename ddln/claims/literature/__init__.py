"""The claims of the literature, a module for each paper, by year."""

from ddln.claims.literature import _arora2018 as arora2018
from ddln.claims.literature import _arora2019 as arora2019
from ddln.claims.literature import _azulay2021 as azulay2021
from ddln.claims.literature import _bayati2012 as bayati2012
from ddln.claims.literature import _berthier2023 as berthier2023
from ddln.claims.literature import _berthier2025 as berthier2025
from ddln.claims.literature import _carlson1995 as carlson1995
from ddln.claims.literature import _chou2023 as chou2023
from ddln.claims.literature import _cohen2024 as cohen2024
from ddln.claims.literature import _domine2025 as domine2025
from ddln.claims.literature import _even2023 as even2023
from ddln.claims.literature import _gunasekar2017 as gunasekar2017
from ddln.claims.literature import _gunasekar2018 as gunasekar2018
from ddln.claims.literature import _haochen2020 as haochen2020
from ddln.claims.literature import _hoff2017 as hoff2017
from ddln.claims.literature import _jacobs2025 as jacobs2025
from ddln.claims.literature import _li2022 as li2022
from ddln.claims.literature import _lyu2020 as lyu2020
from ddln.claims.literature import _lyu2025 as lyu2025
from ddln.claims.literature import _marcotte2023 as marcotte2023
from ddln.claims.literature import _marcotte2024 as marcotte2024
from ddln.claims.literature import _matt2025 as matt2025
from ddln.claims.literature import _moroshko2020 as moroshko2020
from ddln.claims.literature import _nacson2022 as nacson2022
from ddln.claims.literature import _papazov2024 as papazov2024
from ddln.claims.literature import _pesme2021 as pesme2021
from ddln.claims.literature import _pesme2023 as pesme2023
from ddln.claims.literature import _saxe2014 as saxe2014
from ddln.claims.literature import _su2016 as su2016
from ddln.claims.literature import _vaskevicius2019 as vaskevicius2019
from ddln.claims.literature import _wind2023 as wind2023
from ddln.claims.literature import _woodworth2020 as woodworth2020
from ddln.claims.literature import _yun2021 as yun2021
from ddln.claims.literature import _zhao2026 as zhao2026

PAPERS = (
    carlson1995,
    bayati2012,
    saxe2014,
    su2016,
    gunasekar2017,
    hoff2017,
    arora2018,
    gunasekar2018,
    arora2019,
    vaskevicius2019,
    haochen2020,
    lyu2020,
    moroshko2020,
    woodworth2020,
    azulay2021,
    pesme2021,
    yun2021,
    li2022,
    nacson2022,
    berthier2023,
    chou2023,
    even2023,
    marcotte2023,
    pesme2023,
    wind2023,
    cohen2024,
    marcotte2024,
    papazov2024,
    berthier2025,
    domine2025,
    jacobs2025,
    lyu2025,
    matt2025,
    zhao2026,
)
CLAIMS = tuple(claim for paper in PAPERS for claim in paper.CLAIMS)
