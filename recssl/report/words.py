"""Names and explanations as a reader of the report knows them."""

from recssl.report.results import Method

METRICS = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "mrr": "MRR",
    "map": "MAP",
    "hit_rate": "Hit rate",
}

LISTS = {
    "coverage": "Coverage",
    "gini": "Gini",
    "novelty": "Novelty, bit",
    "mean_popularity": "Mean popularity",
}

MODELS = {
    "run": "This run",
    "popularity": "Most popular",
    "item_knn": "Item kNN",
    "ease": "EASE",
    "ials": "iALS",
    "gf_cf": "GF-CF",
}

MODEL_COLORS = {"run": 0, "popularity": 7, "item_knn": 6, "ease": 1, "ials": 2, "gf_cf": 3}

ENCODERS = {"mf": "Matrix factorisation", "lightgcn": "LightGCN", "towers": "Two towers"}

LOSSES = {
    "bpr": "BPR",
    "sampled_softmax": "sampled softmax",
    "bilateral_softmax": "bilateral softmax",
    "direct_au": "DirectAU",
    "triplet": "triplet loss",
    "buir": "BUIR",
    "selfcf": "SelfCF",
    "sgl": "SGL",
    "simgcl": "SimGCL",
    "xsimgcl": "XSimGCL",
    "lightgcl": "LightGCL",
    "ncl": "NCL",
    "simclr": "SimCLR",
    "moco_v2": "MoCo v2",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "barlow_twins": "Barlow Twins",
    "vicreg": "VICReg",
}

SPLITS = {
    "time": "by time: what came last is test",
    "leave_last_out": "the last item of each user is test, the one before valid",
    "random": "at random within each user",
    "new_users": "by user: train has none of those in test, whose earlier items are known",
    "given": "as the log brought it",
}

GROUPS = {"few": "Short histories", "some": "Middle", "many": "Long histories"}

HOW_TO_READ = (
    (
        "The task",
        (
            "The log was cut in parts. The model learnt from train; then each user gets a list of"
            " items it has not had, best first. What the user really took later, the test part,"
            " should stand high in that list."
        ),
    ),
    (
        "Recall@20, hit rate@20",
        (
            "Recall: which part of a user's test items is among the first 20, averaged over users."
            " Hit rate: how many users have at least one there. Both are measured among all items,"
            " not a sample of them, so small numbers are normal."
        ),
    ),
    (
        "NDCG, MRR, MAP",
        (
            "Like recall, but they also count how high in the list the hits stand. 1 is a list"
            " that begins with all test items."
        ),
    ),
    (
        "Baselines",
        (
            "Simple methods that are hard to beat, tuned on the validation part like the model."
            " Most popular: the same list for all. Item kNN: what goes along with the user's items."
            " EASE and iALS: linear models. GF-CF: smoothing along the graph, without training."
        ),
    ),
    (
        "95 % interval",
        (
            "Small grey numbers and thin bars. The users were drawn again and again; the interval"
            " holds 95 % of the results. A difference whose interval contains 0 may be chance."
        ),
    ),
    (
        "Coverage, Gini, novelty",
        (
            "Coverage: the share of all items that anybody is recommended. Gini: 0 if all items are"
            " recommended equally often, near 1 if always the same few. Novelty: higher means that"
            " fewer people know what is recommended. Good lists are accurate without repeating the"
            " same popular items."
        ),
    ),
    (
        "Popularity",
        (
            "By how many users an item was taken in train. Buckets hold about equally many"
            " interactions, so the rarest bucket holds most items. Rare items are the hard ones."
        ),
    ),
    (
        "Spread, effective rank",
        (
            "Whether users and items still differ from each other. A fall towards 0, or towards"
            " rank 1, means that all get the same embedding (collapse)."
        ),
    ),
    (
        "Alignment, uniformity",
        (
            "How close users lie to their items (lower is closer), and how evenly all use the"
            " space (lower is more even). They pull against each other; good training balances"
            " them."
        ),
    ),
    (
        "Map of the items",
        (
            "Each point is an item; near points are liked by the same people. Distances across"
            " the map, axes and empty space mean nothing."
        ),
    ),
    (
        "What this is not",
        (
            "A test on a log of the past. People could only take what they were shown then; what"
            " they do with other recommendations takes an experiment with users to know."
        ),
    ),
)


def model(method: Method) -> str:
    """Return the name of a method in tables and legends."""
    return MODELS.get(method.name, method.name)


def described(name: str) -> str:
    """Return `lightgcn+bpr+simgcl` as `LightGCN with BPR and SimGCL`."""
    encoder, *losses = name.split("+")
    text = ENCODERS.get(encoder, encoder)
    shown = [LOSSES.get(loss, loss) for loss in losses]
    return f"{text} with {' and '.join(shown)}" if shown else text
