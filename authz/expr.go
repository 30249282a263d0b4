package authz

// Expr is one node of a compiled condition.
type Expr interface{}
