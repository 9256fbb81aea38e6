"""The challenge's rule written out densely and slowly, pair by pair: what the fast code has to equal."""

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment


def without_border(labels):
    """Rule 1, cell by cell."""
    frame = np.ones(labels.shape, bool)
    frame[2:-2, 2:-2] = False
    kept = np.where(labels == -1, -1, 0)
    number = 0
    for cell in np.unique(labels[labels > 0]):
        if not (frame & (labels == cell)).any():
            number += 1
            kept[labels == cell] = number
    return kept


def iou_matrix(true, predicted):
    """IoU of every true with every predicted cell outside UNKNOWN; and which predictions lie mostly in it."""
    known = true != -1
    true_cells = [true == cell for cell in np.unique(true[true > 0])]
    predicted_cells = [predicted == cell for cell in np.unique(predicted[predicted > 0])]
    iou = np.zeros((len(true_cells), len(predicted_cells)))
    for (i, a), (j, b) in itertools.product(enumerate(true_cells), enumerate(predicted_cells)):
        shared, joined = np.sum(a & b & known), np.sum((a | b) & known)
        iou[i, j] = shared / joined
    mostly_unknown = [bool(np.sum(cell & ~known) > cell.sum() / 2) for cell in predicted_cells]
    return iou, mostly_unknown


def official_counts(true, predicted, threshold):
    """Rule 2 on plain labels (no UNKNOWN): TP, n_true, n_predicted by the assignment of least cost."""
    iou, _ = iou_matrix(true, predicted)
    n_true, n_predicted = iou.shape
    if min(iou.shape) == 0:
        return 0, n_true, n_predicted
    cost = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
    rows, columns = linear_sum_assignment(cost)
    return int(np.sum(iou[rows, columns] >= threshold)), n_true, n_predicted


def counts_with_unknown(true, predicted, threshold):
    """The same with UNKNOWN, trying every assignment: most right pairs, then most known predictions."""
    iou, mostly_unknown = iou_matrix(true, predicted)
    n_true, n_predicted = iou.shape
    best = (0, 0)
    # None: this true cell stays without a partner.
    for partners in itertools.product([None, *range(n_predicted)], repeat=n_true):
        pairs = [(i, j) for i, j in enumerate(partners) if j is not None and iou[i, j] >= threshold]
        columns = [j for _, j in pairs]
        if len(set(columns)) == len(columns):
            best = max(best, (len(pairs), sum(not mostly_unknown[j] for j in columns)))
    found, of_known = best
    ignored = sum(mostly_unknown) - (found - of_known)
    return found, n_true, n_predicted - ignored
