{{/*
Egress that every pod needs: names and Temporal. Argument: the root.
*/}}
{{- define "temporal-fleet.egress" -}}
{{- $policy := .Values.networkPolicy -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  {{- with $policy.dnsTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    - port: {{ include "temporal-fleet.address" . | regexFind "[0-9]+$" }}
      protocol: TCP
  {{- if and .Values.temporal.devServer.enabled (not .Values.temporal.address) }}
  to:
    - podSelector:
        matchLabels:
          {{- include "temporal-fleet.selector-labels" (dict "root" . "component" "dev-server") | nindent 10 }}
  {{- else }}
  {{- with $policy.temporalTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/*
Port of a URL. Argument: the URL.
*/}}
{{- define "temporal-fleet.port-of-url" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{/*
Specification of the policy of pods that run `fleet` once. Argument: the root.
*/}}
{{- define "temporal-fleet.hook-policy" -}}
podSelector:
  matchLabels:
    {{- include "temporal-fleet.selector-labels" (dict "root" . "component" "hooks") | nindent 4 }}
policyTypes: [Ingress, Egress]
ingress: []
egress:
  {{- include "temporal-fleet.egress" . | trim | nindent 2 }}
{{- end -}}

{{/*
How workers are scraped. Argument: values of a monitor.
*/}}
{{- define "temporal-fleet.scrape" -}}
path: /metrics
{{- with .interval }}
interval: {{ . | quote }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . | quote }}
{{- end }}
{{- if .honorLabels }}
honorLabels: true
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
