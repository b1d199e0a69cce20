"""Set scikit-learn's array API check up before anything imports scipy."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"
