package proxy

func (x *exchange) mirror() {}
