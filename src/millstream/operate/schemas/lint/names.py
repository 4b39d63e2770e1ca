"""A check that a name is one of a fact or of a request. In doubt it is fine: only what is surely wrong is told."""

import re

_IRREGULAR_WORDS = """
Begun Bent Bid Bought Bound Broken Brought Built Burnt Cast Caught Chosen Come Cut Dealt Done Drawn Driven Due Eaten
Fallen Fed Felt Fit Forgotten Fought Found Frozen Given Gone Grown Held Hidden Hit Kept Known Laid Learnt Led Left
Lent Let Lost Made Meant Met Paid Proven Put Quit Read Resent Rewritten Risen Run Said Seen Sent Set Shown Shut Sold
Sought Spent Split Spread Stolen Struck Sunk Swept Taken Taught Thought Thrown Told Undone Unpaid Upset Withdrawn Won
Worn Written
"""
_IRREGULAR = frozenset(_IRREGULAR_WORDS.split())
_VERBS_WORDS = """
Accept Activate Add Allocate Apply Approve Archive Assign Authorize Block Book Calculate Cancel Capture Change Charge
Check Close Collect Complete Confirm Correct Create Deactivate Decline Delete Deliver Disable Dispatch Enable Expire
Fulfil Fulfill Generate Grant Import Increase Decrease Invite Issue Mark Merge Move Notify Open Pack Pay Place Prepare
Process Publish Receive Refund Register Reject Release Remove Rename Replace Request Reserve Restock Resume Retry
Return Revoke Schedule Send Ship Start Stop Submit Suspend Sync Terminate Transfer Unblock Update Upgrade Validate
Verify Withdraw
"""
_VERBS = frozenset(_VERBS_WORDS.split())


def words(name: str) -> list[str]:
    """The words of a class name.

    >>> words("HTTPOrderSent2")
    ['HTTP', 'Order', 'Sent2']
    """
    return re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+", name)


def bad_event_name(name: str) -> bool:
    """Return whether an event is called like a request: a bare verb, and nothing that is over.

    >>> [bad_event_name(name) for name in ("OrderCreate", "CreateOrder", "OrderCreated", "MailDue", "Temperature")]
    [True, True, False, False, False]
    """
    return any(word in _VERBS for word in words(name)) and not any(map(_is_over, words(name)))


def bad_command_name(name: str) -> bool:
    """Return whether a command is called like a fact: something is over, and no verb comes first.

    >>> [bad_command_name(name) for name in ("OrderCancelled", "CancelOrder", "MarkOrderPaid", "Handle")]
    [True, False, False, False]
    """
    parts = words(name)
    return any(map(_is_over, parts)) and not (parts and parts[0] in _VERBS)


def _is_over(word: str) -> bool:
    return word in _IRREGULAR or (word.lower().endswith("ed") and len(word) > 4)
