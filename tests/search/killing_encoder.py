"""An encoder that ends its process while it encodes, as a killed build does."""

import os
import signal

from tests.search.letter_encoder import LetterEncoder

ENDS_AT = "JAXSEARCH_TEST_ENDS_AT"  # a passage; no such variable: it never ends


class KillingEncoder(LetterEncoder):
    """Counts letters until it meets a passage."""

    def encode_passages(self, passages):
        if any(passage.id == os.environ.get(ENDS_AT) for passage in passages):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_passages(passages)


KILLING = KillingEncoder()
