//! Small neural networks whose linear layers any engine can carry out.
