package xds

import (
	"encoding/json"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// NewNode builds the node of a stream from plain values. metadata holds what JSON
// can hold.
func NewNode(id, cluster, region, zone, subzone string, metadata map[string]any) (*corev3.Node, error) {
	n := &corev3.Node{Id: id, Cluster: cluster, UserAgentName: "waypoint"}
	if region != "" || zone != "" {
		n.Locality = &corev3.Locality{Region: region, Zone: zone, SubZone: subzone}
	}
	b, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("xds: node metadata: %w", err)
	}
	n.Metadata = new(structpb.Struct)
	if err := n.Metadata.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("xds: node metadata: %w", err)
	}
	return n, nil
}
