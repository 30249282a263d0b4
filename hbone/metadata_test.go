package hbone

import (
	"strings"
	"testing"
)

func TestParseBaggage(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Baggage
	}{
		{"", Baggage{}},
		{"k8s.cluster.name=c1,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v2,cloud.region=r,cloud.availability_zone=z",
			Baggage{Cluster: "c1", Namespace: "shop", Kind: "deployment", Workload: "cart", Service: "cart", Revision: "v2", Region: "r", Zone: "z"}},
		{"k8s.pod.name=p ; prop=1 , app.name = a,app.version=1,k8s.instance.name=i", Baggage{Kind: "pod", Workload: "p", App: "a", Version: "1", Instance: "i"}},
		{"k8s.job.name=j,k8s.pod.name=p", Baggage{Kind: "job", Workload: "j"}},
		{"service.name=a,service.name=b", Baggage{Service: "a"}},
		{",,=,x,=x,service.name=,unknown=1,k8s.cronjob.name=a=b", Baggage{Kind: "cronjob", Workload: "a=b"}},
	} {
		if got := ParseBaggage(tt.in); got != tt.want {
			t.Errorf("ParseBaggage(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

func FuzzParseBaggage(f *testing.F) {
	f.Add("k8s.cluster.name=c1,k8s.pod.name=p;x=y,service.name=s")
	f.Add("=,;,==")
	f.Fuzz(func(t *testing.T, s string) {
		b := ParseBaggage(s)
		for _, v := range []string{b.Cluster, b.Namespace, b.Workload, b.Service, b.Revision, b.App, b.Version, b.Instance, b.Region, b.Zone} {
			if !strings.Contains(s, v) || strings.ContainsAny(v, ",;") {
				t.Fatalf("%q: value %q", s, v)
			}
		}
		if (b.Kind == "") != (b.Workload == "") {
			t.Fatalf("%q: kind %q, workload %q", s, b.Kind, b.Workload)
		}
	})
}
