"""English words that name nothing one could see."""

FUNCTION_WORDS = frozenset(
    ["a", "an", "the", "of", "on", "in", "at", "to", "by", "for", "with", "from", "and", "or", "but", "nor", "as", "is", "are", "was", "were", "be", "been", "it", "its", "this", "that", "these", "those", "there", "here", "into", "onto", "over", "under", "up", "down", "out", "off", "near", "next", "beside", "between", "behind", "while", "where", "which", "who", "whose", "not", "no", "please", "would", "could", "should", "like", "see", "want", "me", "my", "i", "you", "your", "we", "our", "some", "any", "very", "just", "so", "such", "please"]
)
