package authz

// Action is what a matching policy does.
type Action uint8

const (
	Allow  Action = iota // attached at all, it denies what no such policy matches
	Deny                 // before any Allow
	Audit                // notes the request and decides nothing
	Custom               // asks Policy.Provider, before Deny and Allow
)

// Policy is one policy as it applies to one destination.
type Policy struct {
	Namespace, Name string
	Action          Action
	Provider        string // CUSTOM only
	DryRun          bool
	Rules           []Rule // none and Action Allow: denies everything in scope

	// Invalid, when set, says why the policy could not be read and has no last
	// good version: the destination denies everything, reason policy_invalid.
	Invalid string
}

// Rule is one rule of a policy, ready to compile.
type Rule struct {
	Name string // "ns[N]-policy[P]-rule[I]", as Istio names it
	When *Expr  // nil never matches
	// TCP is the rule's form for connections, from which HTTP conditions were
	// removed (DENY) or which can never hold (ALLOW); nil: same as When.
	TCP *Expr
}

// RuleSpec is a rule of an AuthorizationPolicy as the user wrote it.
type RuleSpec struct {
	From []Source
	To   []Operation
	When []Condition
}

// Source mirrors from.source; all set fields are ANDed.
type Source struct {
	Principals, NotPrincipals               []string
	RequestPrincipals, NotRequestPrincipals []string
	Namespaces, NotNamespaces               []string
	ServiceAccounts, NotServiceAccounts     []string
	TrustDomains, NotTrustDomains           []string
	IPBlocks, NotIPBlocks                   []string
	RemoteIPBlocks, NotRemoteIPBlocks       []string
}

// Operation mirrors to.operation.
type Operation struct {
	Hosts, NotHosts     []string
	Ports, NotPorts     []string
	Methods, NotMethods []string
	Paths, NotPaths     []string
}

// Condition mirrors when.
type Condition struct {
	Key               string
	Values, NotValues []string
}

// Scope is what a rule's meaning depends on besides itself.
type Scope struct {
	Namespace      string   // the policy's own
	TrustDomain    string   // of the mesh
	TrustAliases   []string // further names of it
	SpaceDelimited []string // claims split on spaces, besides scope and permission
}

// Decision is the outcome of a check. The zero value denies: a forgotten path
// stays closed.
type Decision struct {
	Allowed bool
	Policy  string // "namespace/name" of the policy that decided; empty: none did
	Rule    string // rule name as in Rule.Name; empty with a Policy: the policy as a whole
	Reason  Reason
	// Details is Envoy's response_code_details of a denial:
	// "rbac_access_denied_matched_policy[ns[N]-policy[P]-rule[I]]", or "[none]"
	// where no policy matched. Empty when allowed.
	Details string
	// Audit is "namespace/name" of the first AUDIT policy that matched, whatever
	// the outcome.
	Audit string
}

// Reason says why, in words that logs and metrics use as labels.
type Reason string

const (
	ReasonNone          Reason = ""               // zero Decision
	ReasonNoPolicy      Reason = "no_policy"      // allowed: nothing attached
	ReasonNotDenied     Reason = "no_deny_match"  // allowed: no ALLOW policy attached, no DENY policy matched
	ReasonAllowMatched  Reason = "allow_matched"  //
	ReasonDenyMatched   Reason = "deny_matched"   //
	ReasonNoAllow       Reason = "no_allow_match" // denied: an ALLOW policy exists, none matched
	ReasonPolicyInvalid Reason = "policy_invalid" // denied: unreadable policy, no last good version

	ReasonCustomMatched  Reason = "custom_matched"           // an external authorizer has to be asked
	ReasonCustomConflict Reason = "custom_provider_conflict" // denied: CUSTOM policies name several providers
)
